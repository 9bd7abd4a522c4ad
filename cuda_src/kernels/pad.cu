// Channels of an image as planes, one behind the other, with what lies beyond its border around each: a constant, the
// image again, or its mirror image, as often as there is room. Elements may turn into those of a wider type; only
// integers of 64 bits are rounded.
#include <gpuconv/params.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/tile/count.cuh>
#include <gpuconv/tile/element.cuh>

#ifndef ELEMENT
#define ELEMENT f32
#endif
// of the image: ELEMENT's, a float type that is narrower, or an integer; u8 stands for bool too
#ifndef SOURCE
#define SOURCE f32
#endif
#ifndef BLOCK_THREADS
#define BLOCK_THREADS 256
#endif

namespace gpuconv {
namespace {

using i8 = signed char;
using u8 = unsigned char;
using i16 = short;
using u16 = unsigned short;
using i32 = int;
using u32 = unsigned;
using i64 = long long;
using u64 = unsigned long long;

using Element = ELEMENT;
using Source = SOURCE;

// In the host's order.
enum Boundary { kFill, kWrap, kSymm };
// Innermost first: blocks that run together read all channels of the same rows.
enum Axis3 { kColumn, kChannel, kRow };

// What C++ can convert stays as it is.
template <class Number>
__device__ __forceinline__ Number widen(Number value) {
  return value;
}

template <class To, class From>
__device__ __forceinline__ To converted(From value) {
  if constexpr (sizeof(To) == 2) return value;  // nothing else has only such numbers
  else return static_cast<To>(widen(value));
}

// The cell of the image that a cell of the padded one shows; negative beyond a constant's border.
__device__ __forceinline__ int shown(const PadAxis& axis, int boundary, unsigned at) {
  if (boundary == kFill) {
    const int cell = static_cast<int>(at) + axis.shift;
    return cell < axis.size ? cell : -1;
  }
  unsigned cell;
  axis.period.divmod(at + axis.shift, cell);
  return cell < static_cast<unsigned>(axis.size) ? cell : axis.period.divisor - 1 - cell;
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(BLOCK_THREADS)
    pad(const __grid_constant__ gpuconv::PadParams params) {
  using namespace gpuconv;
  unsigned at[3];
  if (!place_of_thread<BLOCK_THREADS>(params.count, at)) return;
  const int row = shown(params.rows, params.boundary, at[kRow]);
  const int column = shown(params.columns, params.boundary, at[kColumn]);
  const long long channel = at[kChannel];
  Element element = *reinterpret_cast<const Element*>(&params.fill);
  if (row >= 0 && column >= 0)
    element = converted<Element>(ptx::ld_global_nc(static_cast<const Source*>(params.from) + channel * params.channel +
                                                   row * params.row + column * params.column));
  ptx::st_global(static_cast<Element*>(params.to) + channel * params.plane + at[kRow] * params.plane_row + at[kColumn],
                 element);
}
