// Matrices of 8 × 8 elements of 16 bits from shared memory into a warp's registers; sm_75 and later.
#pragma once

namespace gpuconv::ptx {

// Lane i names row i mod 8, of 16 aligned bytes, of matrix i / 8. Of every matrix it gets elements 2 (i mod 4) and the
// next, the first in the low half, of row i / 4.
__device__ __forceinline__ void ldmatrix_x4(unsigned (&matrices)[4], const void* row) {
  unsigned window = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(window)
               : "memory");
}

// The same of the transposed matrices: of column i / 4, rows 2 (i mod 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_trans(unsigned (&matrices)[4], const void* row) {
  unsigned window = static_cast<unsigned>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(window)
               : "memory");
}

}  // namespace gpuconv::ptx
