"""Continued pre-training: a model folder and text go in, a better model folder comes out."""

from maxlite.config import Checkpoint, Config, Data, Eval, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # a Hugging Face folder, a finished run, or a hub id
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        steps=2000,
        batch_size=32,
        seq_len=512,
        data=Data(
            # Globs of .txt, .jsonl[.gz] or .parquet. Source(glob, weight=...) sets shares of
            # tokens, such as 9:1 with the model's first language so that it is not forgotten.
            train=(),
            held_out=0.005,  # of the documents are never trained on, and evaluated
        ),
        optimizer=Optimizer(
            learning_rate=1e-4,  # about a third of what the model was first trained with
            schedule="cosine",
            warmup=0.03,
        ),
        checkpoint=Checkpoint(every=200),
        eval=Eval(every=200),
    )
