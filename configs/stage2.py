"""The second of two plain stages: adapters beside every projection, and both tables, train.

It goes on from the first; what the layers hold is frozen, byte for byte. Exports have the adapters
merged; tools.export_hf --adapter writes them as a PEFT folder. A small GPU holds the frozen layers
in four bits with frozen_dtype="nf4" (QLoRA). Nothing here is from a paper; every figure is a
default of ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # the finished run of the first stage, or an extended model
        init=(
            AddLora(
                rank=16,
                alpha=32.0,
                targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
            ),
        ),
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # for plans without a model: LLaMA 7B and 8,000 rows more
            vocab_size=40000,
            base_rows=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            max_position_embeddings=2048,
        ),
        train="lora, vocabulary",  # or lora, new_rows; or lora
        steps=1000,
        batch_size=64,
        seq_len=512,
        remat="full",
        data=Data(
            train=(),  # globs of text; see configs/continue.py
            held_out=0.005,  # of the documents, for evaluation
        ),
        optimizer=Optimizer(
            learning_rate=2e-4,
            weight_decay=0.01,
            schedule="cosine",
            warmup=0.03,
        ),
    )
