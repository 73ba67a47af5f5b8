"""Chinese-LLaMA-Plus 7B (arXiv 2304.08177): adapters beside all projections and both tables train.

Pre-training in one stage, of 6.22 % of the parameters. Rank, alpha, dropout, targets, learning
rate, decay, warm-up, schedule, length and held-out share are those of the released script. Its new
rows began as N(0, 0.02): tools.extend_vocab --input_init=normal --output_init=normal.
"""

from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # LLaMA 7B with the merged tokenizer, 49,953 rows
        init=(
            AddLora(
                rank=8,
                alpha=32.0,
                targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
                dropout=0.05,
            ),
        ),
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # Chinese-LLaMA 7B, 6,885,486,592 parameters
            vocab_size=49953,  # 32,000 + 20,000 pieces - 2,047 that both have
            base_rows=32000,
            hidden_size=4096,
            intermediate_size=11008,
            num_hidden_layers=32,
            num_attention_heads=32,
            max_position_embeddings=2048,
        ),
        train="lora, vocabulary",
        steps=1000,  # default of ours; the script reads its text once
        batch_size=64,  # default of ours
        seq_len=512,
        remat="full",  # default of ours
        data=Data(
            train=(),  # globs of text; see configs/continue.py
            held_out=0.001,  # theirs of blocks of text, ours of documents
        ),
        optimizer=Optimizer(
            learning_rate=2e-4,
            weight_decay=0.01,
            schedule="cosine",
            warmup=0.05,
        ),
    )
