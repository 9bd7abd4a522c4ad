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
    python = digest._without_docstrings
    assert python('def f():\n    """Say."""\n    return 1  # one\n') == python("def f():\n    return 1\n")
    assert python("def f():\n    return 1\n") != python("def f():\n    return 2\n")


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
