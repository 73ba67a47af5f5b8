"""EEVE-Korean (arXiv 2402.14714), stage 6 of 7: adapters beside every projection train.

The body adapts; its weights and both tables are frozen. The accounts say QLoRA, whose frozen
weights are in four bits: frozen_dtype="nf4" does so, and is off here. Whether the tables move in
this stage is told differently; train="lora, vocabulary" has them move.

What each stage trains is as re-implementations of the paper tell it. Rank, alpha and targets, the
steps, batch, rates and schedule of the paper are not known to us: those below are ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # the finished run of the stage before, or an extended model
        init=(
            AddLora(  # defaults of ours
                rank=64,
                alpha=128.0,
                targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
            ),
        ),
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
