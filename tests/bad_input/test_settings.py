"""Broken settings files through the commands a user runs, and every setting with wrong values."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, get_origin

import pytest

from tasks.settings import (
    Section,
    Settings,
    SettingsError,
    apply_overrides,
    settings_from_dict,
)
from tests.bad_input.conftest import Command, assert_refused


def case(name: str, content: str | bytes, *expected: str):
    data = content if isinstance(content, bytes) else content.encode()
    return pytest.param(data, expected, id=name)


NOT_YAML = "not valid YAML"
FILES = [
    case("tab", "\tdata: {}", NOT_YAML),
    case("open_bracket", "data: {source: [", NOT_YAML),
    case("open_quote", "data: {source: 'file}", NOT_YAML),
    case("bad_indent", "data:\n  source: file\n path: x\n", NOT_YAML),
    case("two_colons", "data: source: file", NOT_YAML),
    case("two_documents", "data: {}\n---\ndata: {}\n", NOT_YAML),
    case("duplicate_section", "data: {}\ndata: {}\n", NOT_YAML),
    case("duplicate_key", "data: {split: temporal, split: temporal}", NOT_YAML),
    case("duplicate_key_nested", "train: {gru: {tied: true, tied: false}}", NOT_YAML),
    case("undefined_alias", "data: *nobody", NOT_YAML),
    case("own_alias", "a: &a [*a]", "holds itself"),
    case("own_alias_in_section", "data: &d {synthetic: *d}", "holds itself"),
    case("merge_of_text", "data: {<<: text}", NOT_YAML),
    case("python_object", "data: !!python/object/apply:os.system ['true']", NOT_YAML),
    case("python_name", "data: {path: !!python/name:os.system ''}", NOT_YAML),
    case("python_tuple", "experiment: {seeds: !!python/tuple [1]}", NOT_YAML),
    case("own_tag", "data: !secret {source: file}", NOT_YAML),
    case("wrong_tag", "train: {shared: {batch_size: !!int many}}", NOT_YAML),
    case("binary_tag", "data: {path: !!binary aGVsbG8=}", "type bytes"),
    case("set_tag", "experiment: {models: !!set {gru}}", "experiment.models"),
    case("reserved_indicator", "data: @file", NOT_YAML),
    case("percent_directive", "%YAML 9.9\n---\ndata: {}", NOT_YAML),
    case("control_character", "data: {path: 'a\x01b'}", NOT_YAML),
    case("nul", b"data: {path: 'a\0b'}", NOT_YAML),
    case("latin1", b"report: {title: caf\xe9}", "UTF-8"),
    case("utf16", "data: {}".encode("utf-16"), "UTF-8"),
    case("random_bytes", bytes(range(256)), "UTF-8"),
    case("zeros", b"\0" * 100, NOT_YAML),
    case("too_large", b"#" * 1_000_001, "1000001 bytes", "at most 1000000"),
    case("list", "- data\n- train\n", "holds a list"),
    case("text", "just text", "holds a str"),
    case("number", "5", "holds a int"),
    case("boolean", "true", "holds a bool"),
    case("json_list", "[]", "holds a list"),
    case("deep_nesting", "a: " + "[" * 3000, NOT_YAML),
    case("deep_mapping", "data: " + "{a: " * 3000, NOT_YAML),
    case(
        "alias_bomb",
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(f"{n}: &{n} [{','.join(['*' + p] * 9)}]\n" for p, n in pairwise("abcdefghij")),
        "values once its aliases are written out",
    ),
    case("key_is_a_list", "[1, 2]: 3", "has the key (1, 2)"),
    case("key_is_null", "null: 3", "null is not a setting"),
    case("key_is_a_number", "train: {3: 4}", "train.3 is not a setting"),
    case("key_is_empty", "'': 3", "is not a setting"),
    case("key_in_capitals", "Data: {}", "did you mean 'data'"),
    case("key_misspelt", "experiment: {model: [gru]}", "did you mean 'models'"),
    case("key_misplaced", "data: {num_heads: 4}", "data.num_heads is not a setting"),
    case("key_unknown", "quantum: {}", "quantum is not a setting", "known here"),
    case("key_with_spaces", "data : {sou rce: file}", "data.sou rce is not a setting"),
    case("key_of_ten_kilobytes", "'" + "k" * 10_000 + "': 1", NOT_YAML),
    case("key_with_line_end", '"da\\nta": 1', "is not a setting"),
    case("key_with_emoji", "\U0001f600: 1", "is not a setting"),
    case("ten_mistakes", "data: {" + ", ".join(f"x{k}: 1" for k in range(10)) + "}", "10 problems"),
]
TOGETHER = [
    case("file_without_path", "data: {source: file}", "Set data.path"),
    case("path_absent", "data: {source: file, path: absent.csv}", "absent.csv"),
    case("quantiles_swapped", "data: {val_quantile: 0.9, test_quantile: 0.8}", "above val_q"),
    case("quantiles_equal", "data: {val_quantile: 0.8, test_quantile: 0.8}", "above val_q"),
    case("weights_sum", "data: {synthetic: {order1_weight: 0.9}}", "sum to"),
    case("lengths_swapped", "data: {synthetic: {min_length: 9, max_length: 8}}", "below min_l"),
    case("no_start", "data: {boundaries: time}", "val_start is ''"),
    case(
        "starts_swapped", "data: {boundaries: time, val_start: 2001-01-02, test_start: x}", "data"
    ),
    case("start_no_time", "data: {boundaries: time, val_start: soon, test_start: later}", "'soon'"),
    case("model_twice", "experiment: {models: [gru, gru]}", "names something twice"),
    case("model_unknown", "experiment: {models: [bert]}", "experiment.models.0 is 'bert'"),
    case("no_models", "experiment: {models: []}", "experiment.models"),
    case("no_seeds", "experiment: {seeds: []}", "experiment.seeds"),
    case("seed_twice", "experiment: {seeds: [1, 1]}", "names something twice"),
    case("seed_negative", "experiment: {seeds: [-1]}", "negative seed"),
    case("seed_text", "experiment: {seeds: ['0']}", "experiment.seeds.0"),
    case("seeds_a_number", "experiment: {seeds: 3}", "experiment.seeds"),
    case("seed_huge", "experiment: {seeds: [10000000000000000000000]}", "experiment.seeds"),
    case("name_with_slash", "experiment: {name: ../../etc}", "experiment.name"),
    case("name_with_space", "experiment: {name: 'a b'}", "experiment.name"),
    case("name_empty", "experiment: {name: ''}", "experiment.name"),
    case("name_too_long", "experiment: {name: " + "n" * 101 + "}", "experiment.name"),
    case("cutoff_without_10", "evaluate: {cutoffs: [5]}", "10 included"),
    case("cutoff_zero", "evaluate: {cutoffs: [0, 10]}", "evaluate.cutoffs"),
    case("cutoff_twice", "evaluate: {cutoffs: [10, 10]}", "evaluate.cutoffs"),
    case("pattern_other_letter", "train: {xlstm: {pattern: mxs}}", "train.xlstm.pattern"),
    case("pattern_empty", "train: {xlstm: {pattern: ''}}", "train.xlstm.pattern"),
    case("octal_looking", "train: {shared: {batch_size: '0o17'}}", "batch_size is '0o17'"),
    case("yes_is_text", "tracking: {enabled: yes}", "tracking.enabled is 'yes'"),
    case("number_with_comma", "train: {gru: {learning_rate: 1,5}}", "train.gru"),
    case("number_with_unit", "train: {gru: {learning_rate: 1e-3/s}}", "learning_rate"),
    case("expression", "train: {shared: {batch_size: 32 * 2}}", "batch_size is '32 * 2'"),
    case("template", "data: {source: '${oc.env:HOME}'}", "data.source"),
]
LEGAL = [
    case("empty_file", ""),
    case("blank_file", "\n \n"),
    case("comment_only", "# nothing\n"),
    case("document_mark", "---\ndata: {}\n"),
    case("byte_order_mark", b"\xef\xbb\xbfdata: {}\n"),
    case("windows_line_ends", "data: {}\r\ntrain: {}\r\n"),
    case("json", '{"data": {"min_user_events": 4}}'),
    case("anchor_and_alias", "experiment: {seeds: &s [0, 1]}\ndiagnose: {seeds: *s}\n"),
    case("merge_key", "train: {gru: &n {embedding_dim: 8}, lstm: {<<: *n, dropout: 0.1}}"),
    case("whole_float_from_int", "train: {gru: {learning_rate: 1}}"),
    case("exponent", "train: {gru: {learning_rate: 1e-3}}"),
    case(
        "dates_without_quotes",
        "data: {boundaries: time, val_start: 2001-01-01, test_start: 2001-01-02}",
    ),
    case("emoji_title", "report: {title: '\U0001f3ac <b>&amp;'}"),
    case("explicit_tag", "train: {shared: {batch_size: !!int 32}}"),
    case("long_text", "report: {title: " + "t" * 100_000 + "}"),
]


@pytest.mark.parametrize(("content", "expected"), [*FILES, *TOGETHER])
def test_broken_settings_are_refused_by_both_commands(
    content: bytes, expected: tuple[str, ...], place: Path, stage: Command, assay: Command
) -> None:
    (place / "other.yaml").write_bytes(content)
    before = sorted(place.rglob("*"))

    assert_refused(assay("run", "--params", "other.yaml"), *expected)
    assert sorted(place.rglob("*")) == before

    (place / "params.yaml").write_bytes(content)
    assert_refused(stage("fetch"), *expected)
    assert not any((place / "data" / "raw").glob("*"))


@pytest.mark.parametrize(("content", "expected"), LEGAL)
def test_unusual_but_legal_settings_are_read(
    content: bytes, expected: tuple[str, ...], place: Path, assay: Command
) -> None:
    (place / "params.yaml").write_bytes(content)
    assert expected == ()

    # Reads the settings, then finds that there is nothing to do with them.
    assert_refused(assay("diagnose"), "assay run")


def leaves(section: type[Section], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """(dotted name, default) of every setting."""
    for name, field in section.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Section):
            yield from leaves(annotation, (*path, name))
        else:
            kind = get_origin(annotation) or annotation
            yield pytest.param(".".join((*path, name)), kind, id=".".join((*path, name)))


def values_against(kind: Any) -> list[str]:
    """YAML values that no setting of a kind takes."""
    anything = ["null", "{a: 1}", "[[1]]", ".nan", ".inf", "-.inf", "1e400"]
    if kind is int:
        return [*anything, "1.5", "'3'", "many", "true", "-5", str(10**30), "[1]"]
    if kind is float:
        return [*anything, "'0.5'", "half", "true", "-5.0", str(10**400), "[0.5]"]
    if kind is bool:
        return [*anything, "1", "0", "'true'", "maybe"]
    if kind is tuple:
        return [*anything, "5", "text", "true"]
    if kind is str:
        return [*anything, "5", "true", "[a]"]
    return [*anything, "5", "true", "nonsense", "''"]


SIGNED = {"data.rating_threshold"}
"""Settings that may be negative."""


@pytest.mark.parametrize(("name", "kind"), [*leaves(Settings)])
def test_every_setting_refuses_what_it_can_not_be(
    name: str, kind: Any, place: Path, assay: Command
) -> None:
    for value in values_against(kind):
        if name in SIGNED and value == "-5.0":
            continue
        with pytest.raises(SettingsError) as caught:
            settings_from_dict(apply_overrides({}, [f"{name}={value}"]))
        assert name in str(caught.value), value
    assert_refused(assay("run", "--set", f"{name}=null"), f"{name} is None")
    assert not (place / "runs").exists()


def test_every_setting_is_covered() -> None:
    named = {case.values[0] for case in leaves(Settings)}
    assert len(named) > 80
    assert {"train.xlstm.num_heads", "data.synthetic.seed", "report.title"} <= named
