// What one block computes, and where its operands begin.
#pragma once

#include <gpuconv/gemm/tiles.cuh>

namespace gpuconv {
namespace {

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

__device__ __forceinline__ Address address(const void* base, long long elements) {
  return reinterpret_cast<Address>(base) + elements * static_cast<long long>(sizeof(Element));
}

__device__ __forceinline__ void locate(In& in, const GemmParams& params, const Block& block) {
#pragma unroll
  for (int p = 0; p < InMap::kOuters; ++p) {
    const int m = InMap::outer(p);
    in.first[p] = 0;
    in.row[p] = 0;
    in.column[p] = kNowhere;
    if (block.m + m >= block.count_m) continue;
    const Pixel pixel(block.radices.advanced(block.start, m));
    in.row[p] = block.rows.origin + pixel.i * params.stride_h;
    in.column[p] = block.columns.origin + pixel.j * params.stride_w;
    in.first[p] = address(params.in, block.g * params.in_strides.group + pixel.image * params.in_strides.image +
                                         in.row[p] * params.in_strides.row +
                                         in.column[p] * params.in_strides.column);
  }
}

__device__ __forceinline__ void locate(Taps& taps, const GemmParams& params, const Block& block) {
  const long long first = block.g * params.taps_strides.group + block.rows.tap0 * params.taps_strides.row +
                          block.columns.tap0 * params.taps_strides.column;
#pragma unroll
  for (int p = 0; p < TapsMap::kOuters; ++p) {
    const int n = block.n + TapsMap::outer(p);
    taps.there[p] = n < params.filters;
    taps.first[p] = address(params.taps, first + n * params.taps_strides.image);
  }
}

}  // namespace
}  // namespace gpuconv
