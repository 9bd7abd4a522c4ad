// Patches of images laid out side by side (FOLD 0), or summed back into the cells they come from (FOLD 1). Either way
// each result is gathered: a fold adds up what the patches have at its cell, tap after tap, so that no two threads
// meet. A unit is one element, or in NHWC as many channels as one access takes.
#include <gpuconv/params.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/tile/count.cuh>
#include <gpuconv/tile/element.cuh>

#ifndef ELEMENT
#define ELEMENT f32
#endif
#ifndef FOLD
#define FOLD 0
#endif
// 0 for NCHW, 1 for NHWC
#ifndef CHANNELS_LAST
#define CHANNELS_LAST 0
#endif
// channels of a unit; 1 for NCHW
#ifndef VECTOR
#define VECTOR 1
#endif
// Whether each tap has threads of its own, for NHWC with few channels, rather than all taps of a patch one thread for
// each channel: neighbouring threads then write neighbouring elements.
#ifndef SPREAD_TAPS
#define SPREAD_TAPS 0
#endif
// whether more taps may meet in a cell than a plain sum may have
#ifndef LONG_SUM
#define LONG_SUM 0
#endif
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 256
#endif

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Unit = Pack<Element, VECTOR>;

enum Axis6 { kPatchColumn, kPatchRow, kTapColumn, kTapRow, kUnit, kImage };

static_assert(VECTOR == 1 || CHANNELS_LAST, "only in NHWC are channels neighbours");
static_assert(!SPREAD_TAPS || (CHANNELS_LAST && !FOLD), "a fold's taps meet in one thread");
static_assert(VECTOR * sizeof(Element) <= 16, "one access moves 16 bytes");

constexpr int kAxes = SPREAD_TAPS ? 6 : 4;
// What the threads count, innermost first; for a fold, rows and columns are the image's.
__device__ constexpr int axis_at(int place) {
  if (!CHANNELS_LAST) return place == 0 ? kPatchColumn : place == 1 ? kPatchRow : place == 2 ? kUnit : kImage;
  if (place == 0) return kUnit;
  if (SPREAD_TAPS && place < 3) return place == 1 ? kTapColumn : kTapRow;
  return place == kAxes - 3 ? kPatchColumn : place == kAxes - 2 ? kPatchRow : kImage;
}

__device__ __forceinline__ Unit load(const Element* from) {
  if constexpr (VECTOR > 1) {
    if (!is_aligned<Unit>(from)) {
      Unit unit;
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) unit[i] = ptx::ld_global_nc(from + i);
      return unit;
    }
  }
  return ptx::ld_global_nc(reinterpret_cast<const Unit*>(from));
}

__device__ __forceinline__ void store(Element* to, const Unit& unit) {
  if constexpr (VECTOR > 1) {
    if (!is_aligned<Unit>(to)) {
#pragma unroll
      for (int i = 0; i < VECTOR; ++i) ptx::st_global(to + i, unit[i]);
      return;
    }
  }
  ptx::st_global(reinterpret_cast<Unit*>(to), unit);
}

__device__ __forceinline__ void unfold_cell(const UnfoldParams& params, const Element* from, Element* to, int y, int x,
                                            int r, int s) {
  Unit unit{};
  if (static_cast<unsigned>(y) < static_cast<unsigned>(params.height) &&
      static_cast<unsigned>(x) < static_cast<unsigned>(params.width))
    unit = load(from + y * params.row + x * params.column);
  store(to + r * params.tap_row + s * params.tap_column, unit);
}

// The taps of patch (at[kPatchRow], at[kPatchColumn]).
__device__ __forceinline__ void unfold_patch(const UnfoldParams& params, const unsigned (&at)[6]) {
  const int row = static_cast<int>(at[kPatchRow]), column = static_cast<int>(at[kPatchColumn]);
  const long long image = at[kImage], channel = static_cast<long long>(at[kUnit]) * VECTOR;
  const Element* from = static_cast<const Element*>(params.from) + image * params.image + channel * params.channel;
  Element* to = static_cast<Element*>(params.to) + image * params.cols_image + channel * params.cols_channel +
                row * params.patch_row + column * params.patch_column;
  const int y = row * params.stride_h - params.pad_h, x = column * params.stride_w - params.pad_w;
  if constexpr (SPREAD_TAPS) {
    const int r = static_cast<int>(at[kTapRow]), s = static_cast<int>(at[kTapColumn]);
    unfold_cell(params, from, to, y + r * params.dilation_h, x + s * params.dilation_w, r, s);
  } else {
    for (int r = 0; r < params.taps_h; ++r)
      for (int s = 0; s < params.taps_w; ++s)
        unfold_cell(params, from, to, y + r * params.dilation_h, x + s * params.dilation_w, r, s);
  }
}

// The sums of a unit. Long ones are made of runs of terms, each run one term longer than that before: n terms then err
// by less than 16 + √(2n) units.
struct Sums {
  Accumulator<Element> part[VECTOR] = {};
  Accumulator<Element> total[VECTOR] = {};
  int terms = 0, run = 16;

  __device__ __forceinline__ void add(const Unit& unit) {
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) part[c] += widen(unit[c]);
    if constexpr (LONG_SUM) {
      if (++terms < run) return;
      terms = 0;
      ++run;
#pragma unroll
      for (int c = 0; c < VECTOR; ++c) {
        total[c] += part[c];
        part[c] = 0;
      }
    }
  }

  __device__ __forceinline__ Unit rounded() const {
    Unit unit;
#pragma unroll
    for (int c = 0; c < VECTOR; ++c) unit[c] = narrow<Element>(LONG_SUM ? total[c] + part[c] : part[c]);
    return unit;
  }
};

// The cell in row at[kPatchRow], column at[kPatchColumn].
__device__ __forceinline__ void fold_cell(const UnfoldParams& params, const unsigned (&at)[6]) {
  const int row = static_cast<int>(at[kPatchRow]), column = static_cast<int>(at[kPatchColumn]);
  const long long image = at[kImage], channel = static_cast<long long>(at[kUnit]) * VECTOR;
  const Element* from =
      static_cast<const Element*>(params.from) + image * params.cols_image + channel * params.cols_channel;
  Sums sums;
  for (int r = 0; r < params.taps_h; ++r) {
    const int y = row + params.pad_h - r * params.dilation_h;
    if (y < 0) break;
    unsigned between_rows;
    const unsigned i = params.step_h.divmod(y, between_rows);
    if (between_rows != 0 || i >= static_cast<unsigned>(params.rows)) continue;
    for (int s = 0; s < params.taps_w; ++s) {
      const int x = column + params.pad_w - s * params.dilation_w;
      if (x < 0) break;
      unsigned between_columns;
      const unsigned j = params.step_w.divmod(x, between_columns);
      if (between_columns != 0 || j >= static_cast<unsigned>(params.columns)) continue;
      sums.add(load(from + r * params.tap_row + s * params.tap_column + i * params.patch_row +
                    j * params.patch_column));
    }
  }
  store(static_cast<Element*>(params.to) + image * params.image + channel * params.channel + row * params.row +
            column * params.column,
        sums.rounded());
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    unfold(const __grid_constant__ gpuconv::UnfoldParams params) {
  using namespace gpuconv;
  unsigned place[kAxes], at[6];
  if (!place_of_thread<BLOCK_THREADS>(params.count, place)) return;
#pragma unroll
  for (int axis = 0; axis < kAxes; ++axis) at[axis_at(axis)] = place[axis];
  if constexpr (FOLD) fold_cell(params, at);
  else unfold_patch(params, at);
}
