// What one block and one thread compute, and how a block's tiles are loaded.
#pragma once

#include <gpuconv/direct/tiles.cuh>
#include <gpuconv/params.cuh>
#include <gpuconv/tile/correlation.cuh>

namespace gpuconv {
namespace {

// Where a thread's results lie in its block.
struct Place {
  int p, q, k, g, n;

  __device__ __forceinline__ Place() {
    int rest = threadIdx.x;
    auto take = [&rest](int extent) {
      int index = rest % extent;
      rest /= extent;
      return index;
    };
    if (K_FIRST) {
      k = take(kThreadsK);
      g = take(BLOCK_G);
      q = take(kThreadsQ);
      p = take(kThreadsP);
    } else {
      q = take(kThreadsQ);
      p = take(kThreadsP);
      k = take(kThreadsK);
      g = take(BLOCK_G);
    }
    n = rest;
    p *= THREAD_P;
    q *= THREAD_Q;
    k *= THREAD_K;
  }
};

// Which results a block computes, and which part of their sums.
struct Block {
  Span rows, columns;
  int p, q, k, g, n, split;

  __device__ __forceinline__ explicit Block(const DirectParams& params) {
    unsigned index = blockIdx.x, at;
    index = params.tiles_q.divmod(index, at);
    q = at * BLOCK_Q;
    index = params.tiles_p.divmod(index, at);
    p = at * BLOCK_P;
    index = params.blocks_k.divmod(index, at);
    k = at * BLOCK_K;
    index = params.blocks_g.divmod(index, at);
    g = at * BLOCK_G;
    index = params.classes_w.divmod(index, at);
    columns = CLASSES ? span_of_class(params.columns, at) : span_of(params.columns);
    index = params.classes_h.divmod(index, at);
    rows = CLASSES ? span_of_class(params.rows, at) : span_of(params.rows);
    index = params.blocks_n.divmod(index, at);
    n = at * BLOCK_N;
    split = index;
  }
};

// A stage of the sum: channels from `c`, taps from (r, s); counted without division.
struct Stage {
  int c, r, s;

  __device__ __forceinline__ Stage(const DirectParams& params, int index) {
    s = index % params.chunks_s * TAPS_S;
    index /= params.chunks_s;
    r = index % params.chunks_r * TAPS_R;
    c = index / params.chunks_r * BLOCK_C;
  }
  __device__ __forceinline__ void next(const DirectParams& params) {
    s += TAPS_S;
    if (s < params.chunks_s * TAPS_S) return;
    s = 0;
    r += TAPS_R;
    if (r < params.chunks_r * TAPS_R) return;
    r = 0;
    c += BLOCK_C;
  }
};

// Copies the tiles of stage after stage.
struct Loader {
  TileSource<Element> in, taps;
  int row0, column0;

  __device__ __forceinline__ Loader(const DirectParams& params, const Block& block)
      : in{static_cast<const Element*>(params.in),
           {params.in_strides.row, params.in_strides.column, params.in_strides.channel, params.in_strides.image,
            params.in_strides.group},
           {0, 0, 0, block.n, block.g},
           {params.rows.in_size, params.columns.in_size, params.channels, params.images, params.groups},
           kPackRows ? STRIDE_H : 1,
           kPackColumns ? STRIDE_W : 1},
        taps{static_cast<const Element*>(params.taps) + block.rows.tap0 * params.taps_strides.row +
                 block.columns.tap0 * params.taps_strides.column,
             {block.rows.tap_step * params.taps_strides.row, block.columns.tap_step * params.taps_strides.column,
              params.taps_strides.channel, params.taps_strides.image, params.taps_strides.group},
             {0, 0, 0, block.k, block.g},
             {block.rows.taps, block.columns.taps, params.channels, params.filters, params.groups},
             1,
             1},
        row0(block.rows.origin + block.p * STRIDE_H),
        column0(block.columns.origin + block.q * STRIDE_W - LEAD) {}

  __device__ __forceinline__ void load(const Stage& stage, Sum* tile) {
    in.start[kRow] = row0 + stage.r * DILATION_H;
    in.start[kColumn] = column0 + stage.s * DILATION_W;
    in.start[kChannel] = stage.c;
    TileCopy<InTile, Element, Sum, kThreads, kAsync, BORDER>::run(in, tile);
    taps.start[kRow] = stage.r;
    taps.start[kColumn] = stage.s;
    taps.start[kChannel] = stage.c;
    TileCopy<TapsTile, Element, Sum, kThreads, kAsync>::run(taps, tile + kInCells);
  }
};

}  // namespace
}  // namespace gpuconv
