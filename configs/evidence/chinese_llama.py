"""Chinese-LLaMA (arXiv 2304.08177): does a stage of its own for the input table help?

Two stages (the input table on a fifth of the text, then adapters and both tables), the second one
alone on all of the text, as Chinese-LLaMA-Plus has it, and adapters alone, the tables frozen. New
rows begin as in the released code, drawn from N(0, 0.02), anew for each seed.
"""

from dataclasses import dataclass

from maxlite.recipe import Experiment, Step

FIRST = 0.2  # of the text that stage 1 reads; not published


@dataclass
class ChineseLlama(Experiment):
    required = (*Experiment.required, "extended")

    def arms(self):
        tokens = self.tokens(self.extended)
        stage1, stage2 = (f"chinese_llama/pretrain{n}.py" for n in (1, 2))
        for seed in range(self.seeds):
            wider = self.path(f"model-{seed}")
            yield Step.tool(
                f"model-{seed}",
                "extend_vocab",
                {
                    "model": self.model,
                    "tokenizer": self.extended,
                    "input_init": "normal",
                    "output_init": "normal",
                    "untie": self.shape(self.model).tie_word_embeddings,
                    "seed": seed,
                    "out": wider,
                },
            )
            yield self.trained("table", seed, stage1, wider, tokens * FIRST)
            table, rest = self.path(f"table-{seed}"), tokens * (1 - FIRST)
            yield self.trained("two_stages", seed, stage2, table, rest, stage=1)
            yield self.trained("one_stage", seed, stage2, wider, tokens)
            yield self.trained("adapters", seed, stage2, wider, tokens, train="lora")

    def expects(self):
        wider = self.shape(self.extended)
        return {self.path(f"model-{seed}"): wider for seed in range(self.seeds)}


def get_config() -> ChineseLlama:
    return ChineseLlama()
