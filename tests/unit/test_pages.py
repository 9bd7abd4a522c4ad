"""Pages say what the result files say, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import first, pages, tuning
from bench.check import layers
from gpuconv.families import family
from gpuconv.report.records import Record, ResultFile
from tests import cases

LINES = (
    "fprop_n1c1h4w4k1r3s3_nchw_f32 | cuda_direct | splits=1 | 0",
    "dgrad_n1c1h4w4k1r3s3_nchw_f16 | cuda_direct | splits=1 | 1",
)
LISTED = [cases.Case.parse(line) for line in LINES]
GPU = ResultFile(
    device="NVIDIA H200",
    date="2026-12-01T10:00:00+00:00",
    commit="abc1234",
    environment={"capability": [9, 0]},
)


def record(problem, us, baseline_us, family="fp32", **more):
    op, _, layout, dtype = problem.split("_")
    return Record(
        problem, op, dtype, layout, family, "cuda_direct", "splits=1", us,
        baseline="cuDNN", baseline_us=baseline_us, ratio=baseline_us / us, commit="abc1234", **more,
    )  # fmt: skip


def page(*files):
    return pages.page([pages.Found(f"file-{number}.json", file) for number, file in enumerate(files)], LISTED)


def test_no_page_drifted():
    """If one did: python -m bench.pages."""
    assert pages.drifted() == []


def test_every_figure_of_the_readme_is_on_the_page_of_results():
    text = pages.MAIN.read_text(encoding="utf-8")
    block = text[text.index(pages.BEGIN) : text.index(pages.END)]
    rows = [line for line in block.splitlines() if line.startswith("| ") and "---" not in line]
    results = pages.PAGE.read_text(encoding="utf-8")
    assert len(rows) > 1
    for row in rows[1:]:
        device, what, count, mean, worst = (cell.strip() for cell in row.strip("|").split("|"))
        section = results[results.index(f"### {device}, {what}") :]
        assert f"| all | all | {count} | {mean} | {worst} |" in section


def test_without_a_gpu_the_page_says_so_first():
    text = page()
    first = text.split("##")[1]
    assert first.startswith(" Never seen on a GPU")
    assert "Everything: no GPU has run any kernel" in first
    assert "- `cuda_direct` fprop: f32\n- `cuda_direct` dgrad: f16\n" in first
    assert "- `cuda_unfold` unfold: f16, bf16, f32, f64\n- `cuda_unfold` fold: f16, bf16, f32, f64\n" in first
    assert "- `cuda_pad` fill: f16, bf16, f32, f64\n- `cuda_pad` wrap: f16, bf16, f32, f64\n" in first
    assert text.count("| never |") == len(LINES) + len(APART)
    assert text.count("| cuda_unfold | fold |") == 4
    # which commit that was needs no telling: it is none in particular
    assert "each passes on the emulator in four orders of threads, at every\ncommit that lands" in text
    assert "There is no GPU figure yet." in pages.figures([])


APART = [
    {"kernel": kernel, "op": name, "dtype": dtype, "passed": 8, "failed": 0}
    for kernel, names in (("cuda_unfold", ("unfold", "fold")), ("cuda_pad", ("fill", "wrap", "symm")))
    for name in names
    for dtype in ("f16", "bf16", "f32", "f64")
]


def test_what_a_gpu_ran_is_no_longer_missing():
    rows = [{"kernel": "cuda_direct", "op": "dgrad", "dtype": "f16", "passed": 7, "failed": 1}]
    ran = replace(
        GPU,
        records=(
            record("fprop_n1c1h4w4k1r3s3_nchw_f32", 10.0, 20.0),
            record("fprop_n1c1h5w4k1r3s3_nchw_f32", 10.0, 5.0),
        ),
        extras={"cases": [*rows, *APART]},
    )
    text = page(ran)
    assert "Nothing: every kernel has run on a GPU" in text
    assert "NVIDIA H200 at abc1234: ratio 1.00, worst 0.50" in text
    assert "NVIDIA H200 at abc1234: 7 of 8 cases passed" in text
    assert "| fp32 | fprop | 2 | 1.00 | 0.50 | `fprop_n1c1h5w4k1r3s3_nchw_f32` |" in text
    block = pages.figures([pages.Found("file", ran)])
    assert "There is no GPU figure" not in block
    assert "| NVIDIA H200 | nchw f32 | 2 | 1.00 | 0.50 |" in block


def test_what_failed_as_a_whole_is_neither_seen_nor_unseen():
    def ran(passed, failed, *records):
        row = {"kernel": "cuda_direct", "op": "dgrad", "dtype": "f16", "passed": passed, "failed": failed}
        return replace(GPU, records=records, extras={"cases": [row, *APART]})

    right = record("fprop_n1c1h4w4k1r3s3_nchw_f32", 10.0, 20.0)
    wrong = replace(right, us=None, baseline=None, baseline_us=None, ratio=None, error_over_bound=3.0)
    heading = "## Seen, and wrong"
    assert heading not in page(ran(1, 7, right))
    text = page(ran(0, 8, right))
    assert "Nothing; but see the next heading." in text
    assert (
        f"{heading}\n\nNothing of these passed when a GPU ran them last:\n\n- `cuda_direct` dgrad: f16\n"
        in text
    )
    assert "0 of 8 cases passed" in text
    # it worked once, and no longer does
    assert heading in page(ran(8, 0, right), ran(0, 8, right))
    assert heading not in page(ran(0, 8, right), ran(8, 0, right))
    text = page(ran(8, 0, wrong))
    assert (
        f"{heading}\n\nNothing of these passed when a GPU ran them last:\n\n- `cuda_direct` fprop: f32\n"
        in text
    )
    assert "NVIDIA H200 at abc1234: 1 problem wrong" in text


def test_a_problem_measured_again_counts_once_and_as_the_later_says():
    old = replace(GPU, records=(record("fprop_n1c1h4w4k1r3s3_nchw_f32", 10.0, 20.0),))
    new = replace(GPU, records=(record("fprop_n1c1h4w4k1r3s3_nchw_f32", 10.0, 30.0),))
    text = page(old, new)
    assert "| fp32 | fprop | 1 | 3.00 | 3.00 |" in text
    assert "2.00" not in text


def test_what_was_disturbed_is_left_out_and_said():
    disturbed = record("fprop_n1c1h4w4k1r3s3_nchw_f32", 10.0, 20.0, others=1.5)
    text = page(replace(GPU, records=(disturbed, record("fprop_n1c1h5w4k1r3s3_nchw_f32", 10.0, 5.0))))
    assert "1 problem left out: disturbed by others, or wrong." in text


def test_what_no_gpu_has_timed_comes_first_on_the_next_day_with_one():
    text = page()
    asked = layers.problems(dry_run=False)[: len(first.problems())]
    assert asked == first.problems()
    assert {p.op for p in asked} == {"fprop", "dgrad", "wgrad"}
    assert {p.dtype for p in asked} == set(first.DTYPES)
    for row in first.rows():
        assert f"`{row.problem}`" in text
        assert first.GOALS[family(row.problem)] > 0
        assert row.chosen.kernel.name == first.KERNEL
    timed = replace(record("fprop_n32c64h56w56k64r3s3p1_nhwc_f16", 10.0, 20.0), kernel=first.KERNEL)
    assert "What to measure first" not in page(replace(GPU, records=(timed,)))


def test_the_tuner_is_judged_by_recordings():
    section = "\n".join(tuning.section(pages.RESULTS / "tuning"))
    assert section in page()
    for name, recording in tuning.load(pages.RESULTS / "tuning").items():
        (row,) = [line for line in section.splitlines() if line.startswith(f"| {name} |")]
        assert recording.device in row
    assert "No GPU has been tuned for yet" in section


def test_a_dry_runs_file_is_no_result(tmp_path):
    replace(GPU, extras={"dry_run": True}).save(tmp_path / "dry-run.json")
    with pytest.raises(ValueError, match=r"dry-run\.json is of a dry run: it says nothing about a device"):
        pages.load(tmp_path)


def test_a_page_without_the_lines_for_figures_is_refused():
    with pytest.raises(ValueError, match="the README has no lines"):
        pages.with_figures("# gpuconv", "figures")
