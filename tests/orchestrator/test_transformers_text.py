import ast
import dataclasses

import pytest

from orchestrator.laws.predict import Context, Prediction
from orchestrator.laws.predicted import Predicted
from orchestrator.transformers_text import training_code
from search_spaces.errors import InputError

VALUES = {
    "params": 1e7,
    "tokens": 2e8,
    "learning_rate": 1e-3,
    "batch_tokens": 65536.0,
    "beta2": 0.98765,
    "depth": 4.0,
    "width": 256.0,
    "heads": 4.0,
    "ffn_width": 688.0,
    "warmup_tokens": 1e7,
}
PREDICTION = Prediction(quantities={name: Predicted(value=value) for name, value in VALUES.items()}, warnings=("far",))
CONTEXT = Context(vocab_size=512, sequence_length=128, schedule="cosine", weight_decay=1e-4, tied=False)


def context(**changes) -> Context:
    return dataclasses.replace(CONTEXT, **changes)


def given(code: str, name: str = "TrainingArguments") -> dict[str, object]:
    """The keywords of the one call of `name`."""
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    (call,) = (node for node in calls if ast.unparse(node.func) == name)
    return {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}


@pytest.mark.parametrize("schedule", ["constant", "cosine", "wsd"])
def test_arguments_are_known_to_transformers(schedule):
    from transformers import SchedulerType, TrainingArguments

    found = given(training_code(PREDICTION, context(schedule=schedule), None))

    assert set(found) <= {each.name for each in dataclasses.fields(TrainingArguments)}
    assert found["lr_scheduler_type"] in {each.value for each in SchedulerType}
    assert found["per_device_train_batch_size"] == 512
    assert found["max_steps"] == round(2e8 / 65536)
    assert found["warmup_steps"] == round(1e7 / 65536)
    assert found["weight_decay"] * found["learning_rate"] == pytest.approx(1e-4)


@pytest.mark.parametrize(
    ("architecture", "name"), [("llama", "LlamaConfig"), ("qwen3", "Qwen3Config"), ("gpt2", "GPT2Config")]
)
def test_the_config_builds_a_model_of_the_predicted_shape(architecture, name):
    import transformers

    code = training_code(PREDICTION, context(architecture=architecture), 256)

    assert f"from transformers import {name}, TrainingArguments" in code
    config = getattr(transformers, name)(**given(code, name))
    assert config.model_type == architecture
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (4, 256, 4)
    assert (config.vocab_size, config.max_position_embeddings, config.tie_word_embeddings) == (512, 256, False)
    assert (config.n_inner if architecture == "gpt2" else config.intermediate_size) == 688


def test_without_a_ladder_there_is_no_config_and_it_is_said():
    code = training_code(PREDICTION, CONTEXT, None)
    assert "config = " not in code
    assert "# the laws do not know the shape of a model of this size" in code
    assert "# warning: far" in code


def test_what_is_missing_is_said():
    few = Prediction(quantities={"tokens": Predicted(value=1e9)})
    with pytest.raises(InputError, match="learning_rate is not predicted"):
        training_code(few, CONTEXT, None)
    with pytest.raises(InputError, match="give --seq-len"):
        training_code(PREDICTION, context(sequence_length=None), None)
