"""LLaMA-Pro (arXiv 2401.02415): only the inserted layers train.

Start from tools.upscale_depth --method=llama_pro --add=8 on a 32-layer model: after each four
layers comes a copy of the fourth that adds nothing yet, so training begins at the old model.
Everything old is frozen. Which layers were inserted is known from the model's maxlite.json. Steps,
batch, rates and schedule are ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # an expanded model
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # LLaMA-Pro 8.3B, 8,357,482,496 parameters
            vocab_size=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=40,
            num_attention_heads=32,
            max_position_embeddings=4096,
            inserted_layers="4,9,14,19,24,29,34,39",
        ),
        train="inserted_layers",
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
