"""EEVE-Korean (arXiv 2402.14714), stage 7 of 7: only the layers train.

A cool-down in which both tables are frozen. From the run of stage 6, its adapters train along with
the weights that they stand beside; from its export they are merged into them.

What each stage trains is as re-implementations of the paper tell it. The steps, batch, rates and
schedule of the paper are not known to us: those below are ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # the finished run of the stage before, or an extended model
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # EEVE-Korean-10.8B, 10,804,924,416 parameters
            vocab_size=40960,  # 8,960 new ones
            base_rows=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=48,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=4096,
        ),
        train="body",  # the layers; the last norm goes with them, a choice of ours
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
