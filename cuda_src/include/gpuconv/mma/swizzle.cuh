// Where shared memory holds the rows of a matrix of 16-bit elements that ldmatrix reads.
#pragma once

#include <gpuconv/tile/operand.cuh>

namespace gpuconv {

// Rows of a power of two bytes follow each other; in each, pieces of 16 bytes are exchanged among the 128 bytes that
// the banks are wide, so that the same piece of eight neighbouring rows lies in all banks:
//
//   rows of 64 bytes              rows of 128 bytes and more
//   0 1 2 3 | 0 1 2 3             0 1 2 3 4 5 6 7
//   1 0 3 2 | 1 0 3 2             1 0 3 2 5 4 7 6
//   2 3 0 1 | 2 3 0 1             2 3 0 1 6 7 4 5
//   3 2 1 0 | 3 2 1 0             3 2 1 0 7 6 5 4
//                                 …
//
// Places are linear over exclusive or: place(r + s, x + y) is place(r, x) ^ place(s, y) where r and s have no bit in
// common, nor x and y.
template <int RowBytes>
struct Swizzle {
  static constexpr int kPieces = least(8, RowBytes / 16);
  static constexpr int kTogether = 8 / kPieces;  // rows in 128 bytes
  static_assert((RowBytes & (RowBytes - 1)) == 0 && RowBytes >= 16, "a row is a power of two of pieces");

  __device__ __forceinline__ static constexpr int turn(int row) { return row / kTogether % kPieces * 16; }
  __device__ __forceinline__ static constexpr int place(int row, int byte) {
    return row * RowBytes + (byte ^ turn(row));
  }
};

}  // namespace gpuconv
