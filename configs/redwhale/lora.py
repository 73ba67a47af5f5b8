"""RedWhale (arXiv 2408.11294), the last of four stages: the whole model through adapters.

They stand beside every projection; the weights and both tables are frozen. The account gives 4.60 %
of the parameters and no rank: 128 gives 4.42 %. Rank, alpha, targets and dropout are ours.

Known from summaries of the paper alone. Steps, batch, rates and schedule are not in them: those
below are ours, and so is the shape, SOLAR's: that SOLAR is the base is one account's, unconfirmed.
"""

from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # the finished run of the stage before, or an extended model
        init=(
            AddLora(  # defaults of ours
                rank=128,
                alpha=256.0,
                targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
            ),
        ),
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
        train="lora",
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
            weight_decay=0.0,  # default of ours
            schedule="cosine",  # default of ours
            warmup=0.03,  # default of ours
        ),
    )
