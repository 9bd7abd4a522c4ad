// What one block computes, and where its operands begin.
#pragma once

#include <gpuconv/gemm/config.cuh>
#include <gpuconv/tile/operand.cuh>

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Sum = Accumulator<Element>;

// Neighbouring blocks walk down a band of columns, so that those that run together share operands in L2.
struct Block {
  Span rows, columns;
  int g, n, split;
  long long m, count_m;  // first row of the product, and rows that this class has
  int first, last;       // stages
  Radices radices;       // of the product's rows
  Digits start;          // of the first

  __device__ __forceinline__ explicit Block(const GemmParams& params) {
    unsigned tile, at;
    unsigned index = params.tiles.divmod(blockIdx.x, tile);
    index = params.groups.divmod(index, at);
    g = at;
    index = params.classes_w.divmod(index, at);
    columns = CLASSES ? span_of_class(params.columns, at) : span_of(params.columns);
    index = params.classes_h.divmod(index, at);
    rows = CLASSES ? span_of_class(params.rows, at) : span_of(params.rows);
    split = index;

    unsigned inside;
    const unsigned band = params.band.divmod(tile, inside) * params.raster;
    const unsigned width = min(static_cast<unsigned>(params.raster), params.tiles_n - band);
    m = static_cast<long long>(inside / width) * BLOCK_M;
    n = (band + inside % width) * BLOCK_N;

    count_m = static_cast<long long>(params.images) * rows.count * columns.count;
    const long long depth = static_cast<long long>(params.channels) * rows.taps * columns.taps;
    const int stages = (depth + BLOCK_K - 1) / BLOCK_K;
    first = min(split * params.stages_per_split, stages);
    last = min(first + params.stages_per_split, stages);
    radices = IMAGES_FIRST ? Radices{params.images, columns.count} : Radices{columns.count, rows.count};
    start = radices.of(m);
  }
};

// Row of the product: an image and a pixel of the class.
struct Pixel {
  int image, i, j;

  __device__ __forceinline__ explicit Pixel(Digits digits)
      : image(IMAGES_FIRST ? digits.low : digits.high),
        i(IMAGES_FIRST ? digits.high : digits.mid),
        j(IMAGES_FIRST ? digits.mid : digits.low) {}
};

// Where a result lies along the first column, in elements from its group's first.
__device__ __forceinline__ long long out_offset(const GemmParams& params, const Block& block, const Pixel& pixel) {
  const long long row = block.rows.first + static_cast<long long>(pixel.i) * block.rows.step;
  const long long column = block.columns.first + static_cast<long long>(pixel.j) * block.columns.step;
  return pixel.image * params.out_strides.image + row * params.out_strides.row + column * params.out_strides.column;
}

__device__ __forceinline__ Address address(const void* base, long long elements) {
  return reinterpret_cast<Address>(base) + elements * static_cast<long long>(sizeof(Element));
}

// The cell that the first tap meets from row `m` of the block's, and where it lies; false behind the last row.
__device__ __forceinline__ bool locate(const GemmParams& params, const Block& block, int m, int& row, int& column,
                                       Address& first) {
  first = 0;
  row = 0;
  column = kNowhere;
  if (block.m + m >= block.count_m) return false;
  const Pixel pixel(block.radices.advanced(block.start, m));
  row = block.rows.origin + pixel.i * params.stride_h;
  column = block.columns.origin + pixel.j * params.stride_w;
  first = address(params.in, block.g * params.in_strides.group + pixel.image * params.in_strides.image +
                                 row * params.in_strides.row + column * params.in_strides.column);
  return true;
}

template <class Map, class Flight>
__device__ __forceinline__ void locate_in(InOperand<Map, Flight>& in, const GemmParams& params, const Block& block) {
#pragma unroll
  for (int p = 0; p < Map::kOuters; ++p) locate(params, block, Map::outer(p), in.row[p], in.column[p], in.first[p]);
}

// An input that no tap leaves.
template <class Map, class Flight, class Firsts>
__device__ __forceinline__ void locate_in(TapsOperand<Map, Flight, Firsts>& in, const GemmParams& params,
                                          const Block& block) {
#pragma unroll
  for (int p = 0; p < Map::kOuters; ++p) {
    int row, column;
    in.there[p] = locate(params, block, Map::outer(p), row, column, in.first[p]);
  }
}

template <class Map, class Flight>
__device__ __forceinline__ void locate_taps(TapsOperand<Map, Flight>& taps, const GemmParams& params,
                                            const Block& block) {
  const long long first = block.g * params.taps_strides.group + block.rows.tap0 * params.taps_strides.row +
                          block.columns.tap0 * params.taps_strides.column;
  const int n = block.n + Map::outer(0);
  taps.first.first = address(params.taps, first + n * params.taps_strides.image);
  taps.first.step = address(nullptr, Map::kOuterStep * params.taps_strides.image);
#pragma unroll
  for (int p = 0; p < Map::kOuters; ++p) taps.there[p] = n + p * Map::kOuterStep < params.filters;
}

}  // namespace
}  // namespace gpuconv
