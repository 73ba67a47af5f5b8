"""KoSOLAR-10.7B-v0.3, whose page is EEVE-Korean's now (arXiv 2402.14714): its only stage.

New input rows and the whole output table train; old input rows and the body are frozen. Its authors
found that freezing old input rows is crucial and that training old output rows helps. Their text
was 83.46 % Korean web, 10.69 % multilingual (mostly English) and 5.86 % English-Korean paragraph
pairs. Steps, batch, rates and schedule are not published: those below are ours.
"""

from maxlite.config import Architecture, Config, Data, Optimizer


def get_config() -> Config:
    return Config(
        model="",  # SOLAR-10.7B, extended by tools.extend_vocab
        out="",  # the run folder; starting again in it resumes
        export="",  # the Hugging Face folder written at the end
        architecture=Architecture(  # SOLAR-10.7B and 8,960 rows more
            vocab_size=40960,  # 8,960 new ones
            base_rows=32000,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=48,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=4096,
        ),
        train="new_input_rows, output_rows",
        steps=1000,  # default of ours
        batch_size=64,  # default of ours
        seq_len=2048,  # default of ours
        remat="full",  # default of ours
        data=Data(
            # Theirs: Source("web/*", 83.46), Source("english/*", 10.69), Source("pairs/*", 5.86);
            # weights may add up to anything.
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
