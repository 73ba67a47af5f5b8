"""Instruction tuning: a model and conversations go in, a model that answers comes out."""

from maxlite.config import Checkpoint, Config, Data, Eval, Optimizer, Source


def get_config() -> Config:
    return Config(
        model="",  # a Hugging Face folder, a finished run, or a hub id
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end, with the chat template
        train="everything",  # or rows, or adapters, as in chinese_llama/sft.py
        steps=1000,
        batch_size=32,
        seq_len=1024,  # a longer conversation is left out and counted, none is ever cut
        data=Data(
            # Conversations: Alpaca's JSON, lists of messages, ShareGPT, or pairs in a .csv, whose
            # columns a field names: Source(glob, field="question,answer", template=...). The
            # command line's --config.data.train gives the glob of this one.
            train=(Source(template="own"),),  # or alpaca, llama2, llama3, chatml
            held_out=0.01,  # of the conversations are never trained on, and evaluated
        ),
        optimizer=Optimizer(
            learning_rate=2e-5,
            weight_decay=0.0,
            schedule="cosine",
            warmup=0.03,
        ),
        checkpoint=Checkpoint(every=200),
        eval=Eval(every=200),
    )
