"""Wrong arguments of every command: exit code 2, one message, nothing written."""

from __future__ import annotations

import pytest

from tests.bad_input.conftest import Command, assert_refused


def case(name: str, line: str, *expected: str):
    return pytest.param(line.split(" ") if line else [], expected, id=name)


LONG = "n" * 5000
CASES = [
    case("command_unknown", "fly", "No such command 'fly'"),
    case("command_in_capitals", "RUN", "No such command"),
    case("command_of_bytes", "r\udcffn", "No such command"),
    case("option_unknown", "run --fast", "No such option"),
    case("option_misspelt", "run --seed 3", "No such option", "--seeds"),
    case("option_without_value", "run --set", "requires an argument"),
    case("argument_too_many", "run now", "unexpected extra argument"),
    case("override_without_value", "run --set train.gru.dropout", "section.key=value"),
    case("override_without_key", "run --set =3", "section.key=value"),
    case("override_of_section", "run --set train=3", "section.key=value"),
    case("override_empty", "run --set ", "section.key=value"),
    case("override_unknown", "run --set train.gru.heads=3", "train.gru.heads is not a setting"),
    case("override_misspelt", "run --set data.sorce=file", "did you mean 'source'"),
    case("override_below_a_value", "run --set data.source.x=1", "'source' is a value"),
    case("override_bad_yaml", "run --set data.path=[", "not valid YAML"),
    case("override_tag", "run --set data.path=!!python/name:os.system", "not valid YAML"),
    case("override_number", "run --set experiment.parallel=many", "experiment.parallel is 'many'"),
    case("override_range", "run --set experiment.parallel=0", "experiment.parallel is 0",
         "params.yaml with what the command overrides has 1 problem"),
    case("override_file_scheme", "run --set data.path=file:///etc/passwd --set data.source=file",
         "no such file"),
    case("params_missing", "run --params absent.yaml", "absent.yaml does not exist"),
    case("params_a_folder", "run --params .", "is a folder"),
    case("params_a_device", "run --params /dev/zero", "/dev/zero"),
    case("name_with_slash", "run --name a/b", "'a/b' can't be a folder name"),
    case("name_of_parent", "run --name ..", "'..' can't be a folder name"),
    case("name_absolute", "run --name /tmp/x", "can't be a folder name"),
    case("name_hidden", "run --name .git", "can't be a folder name"),
    case("name_of_option", "run --name -x", "can't be a folder name"),
    case("name_with_line_end", "run --name a\nb", "can't be a folder name"),
    case("name_with_emoji", "run --name \U0001f600", "can't be a folder name"),
    case("name_too_long", f"run --name {LONG}", "at most 80"),
    case("seeds_negative", "run --seeds -1", "--seeds", "greater than or equal to 0"),
    case("seeds_text", "run --seeds many", "valid integer"),
    case("seeds_float", "run --seeds 1.5", "valid integer"),
    case("seeds_too_many", "run --seeds 1001", "experiment.seeds"),
    case("data_missing", "run --data absent.csv", "absent.csv", "no such file"),
    case("data_a_folder", "run --data .", "no such file"),
    case("data_unknown_source", "run --data movielens", "no such file", "Did you mean 'movielens"),
    case("data_a_url", "run --data https://host/log.csv", "https://host/log.csv"),
    case("data_name_too_long", f"run --data {LONG}", "experiment.name", "at most 100"),
    case("data_that_can_not_be_read", "run --data /proc/self/mem", "/proc/self/mem", "can't be"),
    case("column_without_data", "run --user-column u", "--user-column is 'u' without --data"),
    case("stage_unknown", "stage fly", "stage is 'fly'", "fetch, prepare"),
    case("stage_missing", "stage", "Missing argument"),
    case("stage_train_no_model", "stage train", "model"),
    case("stage_train_other_model", "stage train --model bert", "bert"),
    case("stage_seed_negative", "stage train --model gru --seed -1", "--seed"),
    case("prepare_before_fetch", "stage prepare", "source.json", "fetch"),
    case("report_missing", "report", "report.html does not exist", "assay run"),
    case("report_of_no_run", "report --name none", "does not exist"),
    case("report_of_parent", "report --name ../..", "'../..'"),
    case("diagnose_verdict", "diagnose --fail-on angry", "never, suspect or faulty"),
    case("diagnose_no_run", "diagnose --name none", "none"),
    case("diagnose_parent", "diagnose --name ../..", "'../..'"),
    case("diagnose_model_form", "diagnose --model nothing", "nothing"),
    case("diagnose_model_module", "diagnose --model no.such:build", "no"),
    case("diagnose_few_items", "diagnose --model a:b --num-items 3", "--num-items"),
    case("compare_nothing", "compare", "expected at least 2"),
    case("compare_no_run", "compare none other", "run 'none' does not exist"),
    case("compare_parent", "compare ../.. other", "'../..'"),
    case("ui_unknown", "ui tensorboard", "'tensorboard'", "mlflow or prefect"),
    case("ui_port", "ui mlflow --port 70000", "--port"),
    case("preview_missing", "data preview absent.csv", "absent.csv does not exist"),
    case("preview_folder", "data preview .", "is a folder"),
    case("preview_device", "data preview /dev/null", "not a regular file"),
    case("preview_rows", "data preview x --rows 0", "--rows"),
    case("preview_nothing", "data preview", "Missing argument"),
    case("example_without_folder", "data example no/such/log.csv", "its folder does not exist"),
    case("example_exists", "data example params.yaml", "params.yaml exists already"),
    case("data_command", "data delete", "No such command"),
    case("faults_command", "faults fly", "No such command"),
    case("faults_seeds", "faults run --seeds 9", "--seeds"),
    case("faults_unknown", "faults run --only no_such_fault", "no_such_fault"),
    case("faults_workers", "faults run --workers 0", "--workers"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "expected"), CASES)
def test_wrong_arguments_are_refused(
    arguments: list[str], expected: tuple[str, ...], place, assay: Command
) -> None:
    before = sorted(place.rglob("*"))

    assert_refused(assay(*arguments), *expected)

    assert sorted(path for path in place.rglob("*") if ".assay" not in path.parts) == before
