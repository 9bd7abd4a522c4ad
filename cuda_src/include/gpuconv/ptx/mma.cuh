// Products of small matrices by a warp's tensor cores; sm_80 and later.
#pragma once

namespace gpuconv::ptx {

// sum += a b for a of 16 × 16, b of 16 × 8 and a sum of 16 × 8 elements. Lane i holds, with g = i / 4 and t = 2 (i mod
// 4), the lower half of a word first:
//   a    rows g and g + 8 of columns t, t + 1, then rows g and g + 8 of columns t + 8, t + 9
//   b    rows t, t + 1, then rows t + 8, t + 9, of column g
//   sum  columns t, t + 1 of row g, then of row g + 8
__device__ __forceinline__ void mma_m16n8k16_f16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ void mma_m16n8k16_bf16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace gpuconv::ptx
