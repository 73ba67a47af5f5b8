"""Chinese-Alpaca 7B (arXiv 2304.08177): instruction tuning of Chinese-LLaMA.

Adapters beside all projections and both tables train. Rank, alpha, dropout, targets, learning rate,
decay, warm-up, schedule and length are those of the released script for version 1, and so is the
prompt; it cuts what is longer, end token and all, where here it is left out. Chinese-Alpaca has one
more row than Chinese-LLaMA, a [PAD], which packed rows have no use for. Version 2 has rank 64,
alpha 128 and the template llama2.
"""

from maxlite.config import Architecture, Config, Data, Optimizer, Source
from maxlite.transforms import AddLora


def get_config() -> Config:
    return Config(
        model="",  # what pretrain2.py or plus.py exported
        init=(
            AddLora(
                rank=8,
                alpha=32.0,
                targets="q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj",
                dropout=0.05,
            ),
        ),
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end, with the chat template
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
        steps=1000,  # default of ours; the script reads its conversations once
        batch_size=64,  # default of ours
        seq_len=512,
        remat="full",  # default of ours
        data=Data(
            train=(Source(template="alpaca"),),  # of a glob on the command line: see configs/sft.py
            held_out=0.001,  # default of ours
        ),
        optimizer=Optimizer(
            learning_rate=1e-4,
            weight_decay=0.0,
            schedule="cosine",
            warmup=0.03,
        ),
    )
