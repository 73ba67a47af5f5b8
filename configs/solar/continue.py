"""SOLAR-10.7B (arXiv 2312.15166): training goes on after depth up-scaling, of everything.

Start from two copies of a 32-layer model without the last and the first 8 layers:
tools.upscale_depth --method=dus --drop=8, from Mistral 7B with --as_llama. Right after it the model
is worse than its base, and recovers quickly. How it was trained then is not known to us: the
figures below are ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # an up-scaled model
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # SOLAR-10.7B, 10,731,524,096 parameters
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=48,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=4096,
        ),
        train="everything",
        steps=1000,  # default of ours
        batch_size=64,  # default of ours
        seq_len=4096,  # default of ours
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
