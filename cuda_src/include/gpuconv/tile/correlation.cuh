// One axis of a correlation as one block sees it. fprop, dgrad and wgrad differ here and nowhere else:
//
//            outputs   taps   output i, tap j reads cell           taps in the order j = 0, 1, …
//   fprop    P         R      i stride + j dilation − pad          r = j
//   wgrad    R         P      i dilation + j stride − pad          p = j
//   dgrad    H         R      see below; the input is dy           r falls as j grows
//
// dgrad: dx[h] takes w[r] dy[p] where p stride = h + pad − r dilation. For h = a + i stride (class a) the taps that
// divide are r = r0, r0 + period, …, and p moves by one as i does, by −dilation / common from tap to tap.
#pragma once

#include <gpuconv/params.cuh>

namespace gpuconv {

struct Span {
  int first, step, count;    // outputs first, first + step, …: so many
  int origin;                // input cell of the first output and the first tap
  int taps, tap0, tap_step;  // so many taps: tap0, tap0 + tap_step, …
};

__device__ __forceinline__ Span span_of(const Axis& axis) {
  return {0, 1, axis.out_size, -axis.pad, axis.taps, 0, 1};
}

__device__ __forceinline__ Span span_of_class(const Axis& axis, int a) {
  int count = (axis.out_size - 1 - a) / axis.classes + 1;
  long long shifted = static_cast<long long>(a) + axis.pad;
  if (shifted % axis.common != 0) return {a, axis.classes, count, 0, 0, 0, 0};
  int r0 = static_cast<int>(shifted / axis.common % axis.period * axis.inverse % axis.period);
  int taps = r0 < axis.taps ? (axis.taps - 1 - r0) / axis.period + 1 : 0;
  int last = r0 + (taps - 1) * axis.period;
  // exact: last solves the congruence
  int origin = taps ? static_cast<int>((shifted - static_cast<long long>(last) * axis.tap_step) / axis.classes) : 0;
  return {a, axis.classes, count, origin, taps, last, -axis.period};
}

}  // namespace gpuconv
