// The end of every kernel: sum + bias + residual, then the activation, rounded once and stored.
#pragma once

#include <gpuconv/ptx/global.cuh>
#include <gpuconv/tile/element.cuh>

namespace gpuconv {

// N results that are neighbours in memory go to out + offset; `channel_step` is how far their channels lie apart,
// 0 or 1. Those from `count` on are not there.
template <class Element, bool Bias, bool Residual, bool Relu>
struct Epilogue {
  using Sum = Accumulator<Element>;
  Element* out;
  const Element* bias;
  const Element* residual;

  template <int N>
  __device__ __forceinline__ void store(const Sum (&sums)[N], int channel, int channel_step, long long offset,
                                        int count) const {
    using Together = Pack<Element, N>;
    Together added, results;
    bool whole = count >= N;
    if constexpr (Residual) {
      const Element* from = residual + offset;
      if (N > 1 && whole && is_aligned<Together>(from)) {
        added = ptx::ld_global_nc(reinterpret_cast<const Together*>(from));
      } else {
#pragma unroll
        for (int i = 0; i < N; ++i)
          if (i < count) added[i] = ptx::ld_global_nc(from + i);
      }
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      Sum value = sums[i];
      if constexpr (Bias)
        if (i < count) value += widen(ptx::ld_global_nc(bias + channel + i * channel_step));
      if constexpr (Residual)
        if (i < count) value += widen(added[i]);
      if constexpr (Relu) value = value < 0 ? Sum(0) : value;  // NaN stays
      results[i] = narrow<Element>(value);
    }
    Element* to = out + offset;
    if (N > 1 && whole && is_aligned<Together>(to)) {
      ptx::st_global(reinterpret_cast<Together*>(to), results);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i)
        if (i < count) ptx::st_global(to + i, results[i]);
    }
  }
};

}  // namespace gpuconv
