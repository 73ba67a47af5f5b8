"""Chinese-LLaMA 7B (arXiv 2304.08177), stage 2 of pre-training: adapters and both tables train.

Adapters of rank 8 beside the attention's projections, with both tables 6.06 % of the parameters, as
published for the basic 7B. Alpha, dropout, learning rate, decay, warm-up, schedule, length and
held-out share are those of the released script, whose adapters stand beside all seven (plus.py).
"""

from maxlite.config import Architecture, Config, Data, Optimizer
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # the finished run of stage 1, or its export
        init=(
            AddLora(
                rank=8,
                alpha=32.0,
                targets="q_proj,k_proj,v_proj,o_proj",
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
