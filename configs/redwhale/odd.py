"""RedWhale (arXiv 2408.11294), the second of four stages: odd layers train.

Half of the layers at a time need half of the optimizer's memory. Whether the first layer counts as
0 or 1 and whether the tables train too is not known: here it is 0, and they are frozen.
Rule("layers", layers="odd from 1") is the other way to count.

Known from summaries of the paper alone. Steps, batch, rates and schedule are not in them: those
below are ours, and so is the shape, SOLAR's: that SOLAR is the base is one account's, unconfirmed.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # the finished run of the stage before, or an extended model
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # SOLAR-10.7B with RedWhale's rows
            vocab_size=49072,  # 32,000 + 20,000 pieces - 2,928 that both have
            base_rows=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=48,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=4096,
        ),
        train="odd_layers",  # 1, 3, ... counted from 0, tables frozen; default of ours
        steps=1000,  # default of ours
        batch_size=64,  # default of ours
        seq_len=2048,  # default of ours
        remat="full",  # default of ours
        data=Data(
            train=(),  # globs of text; see configs/continue.py
            held_out=0.005,  # of the documents, for evaluation; default of ours
        ),
        optimizer=Optimizer(
            learning_rate=1e-4,  # default of ours
            weight_decay=0.1,  # default of ours
            schedule="cosine",  # default of ours
            warmup=0.03,  # default of ours
        ),
    )
