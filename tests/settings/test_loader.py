"""Settings: what is read, what is refused, and how it is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.settings import (
    Settings,
    SettingsError,
    apply_overrides,
    load_settings,
    read_params,
    settings_from_dict,
    write_params,
)


def test_the_committed_file_holds_every_setting_at_its_default(repository: Path) -> None:
    assert read_params(repository / "params.yaml") == Settings().model_dump(mode="json")


def test_written_settings_read_back(tmp_path: Path) -> None:
    settings = load_settings_text(tmp_path, "train: {xlstm: {num_heads: 4}}")
    write_params(settings, tmp_path / "written.yaml")
    assert load_settings(tmp_path / "written.yaml") == settings
    assert [path.name for path in tmp_path.glob("*.tmp")] == []


def load_settings_text(folder: Path, text: str) -> Settings:
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    return load_settings(folder / "params.yaml")


def test_left_out_keys_take_their_defaults(tmp_path: Path) -> None:
    assert load_settings_text(tmp_path, "") == Settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().data.split = "temporal"


def test_every_problem_is_reported_at_once_with_its_path(tmp_path: Path) -> None:
    text = "train: {xlstm: {num_head: 3, dropout: 2}, foo: 1}\nexperiment: {seeds: [1, 1]}\n"
    with pytest.raises(SettingsError) as caught:
        load_settings_text(tmp_path, text)
    message = str(caught.value)
    assert "4 problems" in message
    assert "train.xlstm.num_head is not a setting; did you mean 'num_heads'?" in message
    assert "train.xlstm.dropout is 2; input should be less than 1" in message
    assert "train.foo is not a setting; known here: gru" in message
    assert "experiment.seeds: [1, 1] names something twice" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train: {shared: {batch_size: '64'}}", "batch_size is '64'; input should be a valid int"),
        ("train: {shared: {batch_size: true}}", "batch_size is True"),
        ("train: {shared: {batch_size: 6.5}}", "batch_size is 6.5"),
        ("train: {gru: {learning_rate: .nan}}", "finite number"),
        ("train: {gru: {learning_rate: 0}}", "greater than 0"),
        ("train: {gru: }", "train.gru is None"),
        ("train: 7", "train is 7"),
        ("experiment: {models: [gru, bert]}", "experiment.models.1 is 'bert'"),
        ("experiment: {models: [xlstmm]}", "Did you mean 'xlstm'?"),
        ("experiment: {models: [bert]}", "has 1 problem:"),
        ("experiment: {models: []}", "experiment.models"),
        ("experiment: {seeds: [-1]}", "negative seed"),
        ("evaluate: {cutoffs: [5]}", "10 included"),
        ("data: {source: file}", "Set data.path"),
        ("data: {synthetic: {order1_weight: 0.9}}", "sum to"),
        ("data: {val_quantile: 0.9, test_quantile: 0.8}", "above val_quantile"),
        ("data: {split: random}", "data.split is 'random'"),
        ("- a list", "holds a list"),
        ("just text", "holds a str"),
        ("data: {source: [", "not valid YAML"),
        ("data: !!python/object/apply:os.system ['true']", "not valid YAML"),
        ("data: {split: temporal, split: temporal}", "not valid YAML"),
        ("a: &a [*a]", "holds itself"),
        ("train: {3: 4}", "train.3 is not a setting"),
        ("\tdata: {}", "not valid YAML"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings_text(tmp_path, text)
    assert expected in str(caught.value)


def test_yaml_1_2_numbers(tmp_path: Path) -> None:
    settings = load_settings_text(tmp_path, "train: {gru: {learning_rate: 1e-3}}")
    assert settings.train.gru.learning_rate == 0.001


def test_missing_file_folder_and_wrong_bytes(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="does not exist"):
        load_settings(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="is a folder"):
        load_settings(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"report: {title: caf\xe9}")
    with pytest.raises(SettingsError, match="UTF-8"):
        load_settings(tmp_path / "latin.yaml")


def test_overrides_apply_in_order_and_leave_the_input_alone() -> None:
    params = {"train": {"gru": {"dropout": 0.1}}}
    merged = apply_overrides(params, ["train.gru.dropout=0.3", "experiment.seeds=[0, 1]"])
    assert merged == {"train": {"gru": {"dropout": 0.3}}, "experiment": {"seeds": [0, 1]}}
    assert params == {"train": {"gru": {"dropout": 0.1}}}


@pytest.mark.parametrize("text", ["", "x", "x=1", "=1", "a..b=1", "train.gru", "train.gru.=1"])
def test_malformed_overrides(text: str) -> None:
    with pytest.raises(SettingsError, match="not of the form"):
        apply_overrides({}, [text])


def test_an_override_below_a_value_is_refused() -> None:
    with pytest.raises(SettingsError, match="'split' is a value"):
        apply_overrides({"data": {"split": "temporal"}}, ["data.split.x=1"])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "other"]), json_values))
def test_any_mapping_loads_or_is_refused_with_a_message(params: dict) -> None:
    try:
        settings = settings_from_dict(params)
    except SettingsError as error:
        assert "problem" in str(error)
    else:
        assert isinstance(settings, Settings)


@given(st.text(max_size=40))
def test_any_text_is_yaml_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "params.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    try:
        load_settings(path)
    except SettingsError as error:
        assert str(error)
