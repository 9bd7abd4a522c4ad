// A thread's results in registers: what they read, how they are summed, where they are stored.
#pragma once

#include <gpuconv/direct/block.cuh>
#include <gpuconv/epilogue/finish.cuh>

namespace gpuconv {
namespace {

// Columns of the input that a thread needs for a row of taps, read as quads where they lie so.
constexpr int kWindow = (THREAD_Q - 1) * kTileStrideW + (TAPS_S - 1) * DILATION_W + 1;
constexpr bool kWindowFits = kWindow <= 48;
constexpr bool kQuads = !INTERLEAVED && kWindowFits && THREAD_Q * kTileStrideW % kQuad == 0;
constexpr int kSkip = kQuads ? LEAD % kQuad : 0;
constexpr int kWindowCells = kQuads ? round_up(kSkip + kWindow, kQuad) : kWindow;
constexpr int kTapsQuad = THREAD_K % kQuad == 0 ? kQuad : THREAD_K % 2 == 0 ? 2 : 1;

// Rows of the halo tile that a thread meets. It slides down them where that is little enough code to unroll.
constexpr int kThreadRows = (THREAD_P - 1) * kTileStrideH + (TAPS_R - 1) * DILATION_H + 1;
constexpr bool kSlide = kThreadRows <= 16 && TAPS_R * TAPS_S * THREAD_P * THREAD_Q * THREAD_K <= 1024;

// The tap row that brings a row of the tile to a thread's result row, or −1.
__host__ __device__ constexpr int tap_row(int tile_row, int p) {
  int distance = tile_row - p * kTileStrideH;
  return distance < 0 || distance % DILATION_H || distance / DILATION_H >= TAPS_R ? -1 : distance / DILATION_H;
}

// The columns of one row of the halo tile that a thread needs: in registers, or where they are too many, in place.
struct Window {
  Sum cells[kWindowFits ? kWindowCells : 1];
  const Sum* row;

  __device__ __forceinline__ void read(const Sum* first) {
    row = first;
    if constexpr (kQuads) {
#pragma unroll
      for (int i = 0; i < kWindowCells; i += kQuad) {
        auto quad = ptx::ld_shared(reinterpret_cast<const Pack<Sum, kQuad>*>(first - kSkip + i));
#pragma unroll
        for (int j = 0; j < kQuad; ++j) cells[i + j] = quad[j];
      }
    } else if constexpr (kWindowFits) {
#pragma unroll
      for (int i = 0; i < kWindow; ++i) cells[i] = ptx::ld_shared(first + i * InTile::stride(kColumn));
    }
  }

  __device__ __forceinline__ Sum cell(int column) const {
    if constexpr (kWindowFits) return cells[kSkip + column];
    else return ptx::ld_shared(row + column * InTile::stride(kColumn));
  }
};

// A thread's results.
struct Sums {
  Sum part[THREAD_P][THREAD_K][THREAD_Q];
  Sum total[LONG_SUM ? THREAD_P : 1][LONG_SUM ? THREAD_K : 1][LONG_SUM ? THREAD_Q : 1];
  int rows_summed;

  template <class Each>
  static __device__ __forceinline__ void for_each(Each each) {
#pragma unroll
    for (int p = 0; p < THREAD_P; ++p)
#pragma unroll
      for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
        for (int q = 0; q < THREAD_Q; ++q) each(p, k, q);
  }

  __device__ __forceinline__ Sums() : rows_summed(0) {
    for_each([this](int p, int k, int q) {
      part[p][k][q] = 0;
      if constexpr (LONG_SUM) total[p][k][q] = 0;
    });
  }

  __device__ __forceinline__ void flush(int p) {
    if constexpr (LONG_SUM) {
#pragma unroll
      for (int k = 0; k < THREAD_K; ++k)
#pragma unroll
        for (int q = 0; q < THREAD_Q; ++q) {
          total[p][k][q] += part[p][k][q];
          part[p][k][q] = 0;
        }
    }
  }

  __device__ __forceinline__ void count_rows(int rows, int flush_rows) {
    if constexpr (LONG_SUM) {
      rows_summed += rows;
      if (rows_summed < flush_rows) return;
      rows_summed = 0;
#pragma unroll
      for (int p = 0; p < THREAD_P; ++p) flush(p);
    }
  }

  __device__ __forceinline__ Sum value(int p, int k, int q) const {
    if constexpr (LONG_SUM) return total[p][k][q] + part[p][k][q];
    else return part[p][k][q];
  }

  // `in` is the thread's first cell in the halo tile, `taps` its first tap, both of one channel. Where stages or
  // classes are short, a missing tap is skipped, not taken for 0: the cell it would meet may be NaN.
  __device__ __forceinline__ void add_channel(const Sum* in, const Sum* taps, int rows, int columns, int flush_rows) {
    if constexpr (kSlide) {
#pragma unroll
      for (int row = 0; row < kThreadRows; ++row) {
        Window window;
        window.read(in + row * InTile::stride(kRow));
#pragma unroll
        for (int p = 0; p < THREAD_P; ++p) {
          const int r = tap_row(row, p);
          if (r < 0 || (GUARD_TAPS && r >= rows)) continue;
          add_row(p, window, taps + r * TapsTile::stride(kRow), columns);
          if (FLUSH_ROWS < TAPS_R && (r + 1) % FLUSH_ROWS == 0) flush(p);
        }
      }
      count_rows(TAPS_R, FLUSH_ROWS < TAPS_R ? 0 : flush_rows);
    } else {
#pragma unroll 1
      for (int r = 0; r < TAPS_R; ++r) {
        if (GUARD_TAPS && r >= rows) break;
#pragma unroll
        for (int p = 0; p < THREAD_P; ++p) {
          Window window;
          window.read(in + (p * kTileStrideH + r * DILATION_H) * InTile::stride(kRow));
          add_row(p, window, taps + r * TapsTile::stride(kRow), columns);
        }
        count_rows(1, flush_rows);
      }
    }
  }

  __device__ __forceinline__ void add_row(int p, const Window& window, const Sum* taps, int columns) {
#pragma unroll
    for (int s = 0; s < TAPS_S; ++s) {
      if (GUARD_TAPS && s >= columns) break;
      Sum tap[THREAD_K];
#pragma unroll
      for (int k = 0; k < THREAD_K; k += kTapsQuad) {
        using Quad = Pack<Sum, kTapsQuad>;
        auto quad = ptx::ld_shared(reinterpret_cast<const Quad*>(taps + s * TapsTile::stride(kColumn) + k));
#pragma unroll
        for (int j = 0; j < kTapsQuad; ++j) tap[k + j] = quad[j];
      }
#pragma unroll
      for (int q = 0; q < THREAD_Q; ++q) {
        const Sum cell = window.cell(q * kTileStrideW + s * DILATION_W);
#pragma unroll
        for (int k = 0; k < THREAD_K; ++k) part[p][k][q] += cell * tap[k];
      }
    }
  }
};

// Stores a thread's results: neighbours in memory together, up to 16 bytes.
template <class To, class Finish>
__device__ __forceinline__ void store(const Finish& finish, const DirectParams& params, const Block& block,
                                      const Place& place, const Sums& sums) {
  constexpr int kMost = 16 / sizeof(To);
  constexpr int kAlong = OUT_UNIT == kColumn ? THREAD_Q : OUT_UNIT == kLane ? THREAD_K : 1;
  constexpr int kTogether = kAlong % kMost == 0 ? kMost : kAlong % 4 == 0 && kMost >= 4 ? 4 : kAlong % 2 == 0 ? 2 : 1;
  constexpr int kStepQ = OUT_UNIT == kColumn ? kTogether : 1, kStepK = OUT_UNIT == kLane ? kTogether : 1;
  const int n = block.n + place.n, g = block.g + place.g;
  if (n >= params.images || g >= params.groups) return;
  const long long base = SPLITS > 1 ? block.split * params.split_elements : 0;
  const long long image = base + n * params.out_strides.image + g * params.out_strides.group;
#pragma unroll
  for (int p = 0; p < THREAD_P; ++p) {
    const int i = block.p + place.p + p;
    if (i >= block.rows.count) break;
    const long long row =
        image + static_cast<long long>(block.rows.first + i * block.rows.step) * params.out_strides.row;
#pragma unroll
    for (int k = 0; k < THREAD_K; k += kStepK) {
#pragma unroll
      for (int q = 0; q < THREAD_Q; q += kStepQ) {
        const int filter = block.k + place.k + k, j = block.q + place.q + q;
        const int left_k = params.filters - filter, left_q = block.columns.count - j;
        if (left_k <= 0 || left_q <= 0) continue;
        Accumulator<To> values[kTogether];
#pragma unroll
        for (int e = 0; e < kTogether; ++e)
          values[e] = sums.value(p, k + (kStepK > 1 ? e : 0), q + (kStepQ > 1 ? e : 0));
        finish.store(values, g * params.filters + filter, kStepK > 1 ? 1 : 0,
                     row + filter * params.out_strides.channel +
                         static_cast<long long>(block.columns.first + j * block.columns.step) *
                             params.out_strides.column,
                     kStepK > 1 ? left_k : kStepQ > 1 ? left_q : 1);
      }
    }
  }
}

}  // namespace
}  // namespace gpuconv
