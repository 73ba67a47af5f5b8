"""Pre-training from random weights: a tokenizer and text go in, a small Llama comes out."""

from maxlite.config import Architecture, Checkpoint, Config, Data, Eval, Optimizer


def get_config() -> Config:
    return Config(
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # vocab_size 0: as many rows as the tokenizer has
            hidden_size=256,
            intermediate_size=688,
            num_hidden_layers=6,
            num_attention_heads=8,
            num_key_value_heads=4,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
        ),
        steps=5000,
        batch_size=32,
        seq_len=512,
        data=Data(
            train=(),  # globs of .txt, .jsonl[.gz] or .parquet
            held_out=0.005,  # of the documents are never trained on, and evaluated
            tokenizer="",  # a folder, or one tokenizer.model or tokenizer.json
        ),
        optimizer=Optimizer(learning_rate=1e-3, schedule="cosine", warmup=0.02),
        checkpoint=Checkpoint(every=500),
        eval=Eval(every=500),
    )
