"""The first of two plain stages: only the rows of new tokens train, in both tables.

The body and all old rows are frozen, byte for byte. It starts from a model that
`tools.extend_vocab` has extended; a tied one has one table, whose new rows train as input and as
output. Nothing here is from a paper; every figure is a default of ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # an extended model: a Hugging Face folder, a finished run, or a hub id
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
        train="new_rows",  # or new_input_rows, or new_output_rows
        steps=1000,
        batch_size=64,
        seq_len=512,
        remat="full",
        data=Data(
            train=(),  # globs of text; see configs/continue.py
            held_out=0.005,  # of the documents, for evaluation
        ),
        optimizer=Optimizer(
            learning_rate=1e-3,  # rows alone bear more than a whole model
            weight_decay=0.0,  # rare rows would shrink between their gradients
            schedule="cosine",
            warmup=0.03,
        ),
    )
