"""What a measured time depends on: comments are not among it."""

from __future__ import annotations

from gpuconv.autotune import digest
from gpuconv.problem import ConvProblem

from ..stand_in import Level


def test_digests_do_not_see_comments():
    bare = digest._without_comments
    assert bare("int a; // one\n/* two\nlines */ int b;") == "int a;\nint b;"
    assert bare('print("// no /* comment");') == 'print("// no /* comment");'
    assert bare("a  =\t1;\n\n\n") == bare("a = 1;")
    assert bare("a = 1;") != bare("a = 2;")


def test_a_python_sources_digest_is_of_its_text_alone():
    bare = digest._without_docstrings
    code = "class A:\n    async def f(self):\n        return [1,\n            2]\n"
    assert bare(code) == code.rstrip()  # a tree's dump differs here from one Python to the next
    noisy = (
        '"""A module\n\nof its own."""\n\n# one\nclass A:  # two\n    """é"""  # three\n\n'
        "    async def f(self):\n        ''\n        return [1,  # four\n\n            # five\n"
        "            2]   \n   \n"
    )
    assert bare(noisy) == bare(code)
    assert bare('def f(): """é"""; return 1') == "def f(): ; return 1"
    for this, that in (
        ("def f():\n    return 1\n", "def f():\n    return 2\n"),
        ("if a:\n    b()\nc()\n", "if a:\n    b()\n    c()\n"),
        ('a = "# one"\n', 'a = "# two"\n'),
        ('a = f"{b}# one"\n', 'a = f"{b}# two"\n'),
        ('a = """one\n\ntwo"""\n', 'a = """one\ntwo"""\n'),
        ('a = f"""{b} \n"""\n', 'a = f"""{b}\n"""\n'),
    ):
        assert bare(this) != bare(that)


def test_a_kernels_digest_is_of_all_that_it_launches():
    from gpuconv.autotune.heuristic import Candidate
    from gpuconv.backend.cards import CARDS
    from gpuconv.kernels import registry

    device = CARDS["H200"].device
    p = ConvProblem.parse("wgrad_n1c64h14w14k64r3s3p1_nhwc_f16")
    kernel = registry.by_name("implicit_gemm_sm80")
    found = {digest.digest(p, Candidate(kernel, config), device) for config in kernel.configs(p, device)}
    assert len(found) == 2  # with the kernel that adds split sums, and without
    assert digest.digest(p, Candidate(registry.by_name("cpu_im2col_gemm"), Level()), device) not in found
