// Direct convolution: fprop, dgrad and wgrad as one correlation,
//
//   out[n, g, k, i, j] = Σ over c, r, s of  in[n, g, c, i STRIDE_H + r DILATION_H, j STRIDE_W + s DILATION_W]
//                                          · taps[g, k, c, r, s]
//
// with cells outside the input zero. For wgrad, n counts input channels and c images; see tile/correlation.cuh.
//
// One block computes BLOCK_N × BLOCK_G × BLOCK_K × BLOCK_P × BLOCK_Q results. It walks the sum in stages of
// BLOCK_C channels × TAPS_R × TAPS_S taps; for each, all threads fill shared memory and then read it:
//
//   shared memory, STAGES times over:
//     in    the halo tile: every cell that a result of the block meets in this stage
//             planar        [n][g][c][row][column]    columns are neighbours in memory (NCHW)
//             interleaved   [row][column][·][·][·]    channels are (NHWC); last comes the axis they belong to
//     taps  [c][r][s][g][k], or [g][c][r][s][k] where neither outputs nor groups are neighbours in memory
//
// A thread holds THREAD_P × THREAD_Q neighbouring pixels of THREAD_K outputs in registers. It slides down the rows
// of the halo tile, reads of each the window of columns it needs once, and adds it to every result it meets. Rows of
// taps join a total every `flush_rows` (LONG_SUM): sums of two levels keep the rounding error of long ones in bounds.
#include <gpuconv/epilogue/finish.cuh>
#include <gpuconv/params.cuh>
#include <gpuconv/tile/copy.cuh>
#include <gpuconv/tile/correlation.cuh>

// The problem. Of the correlation, not of the forward convolution: wgrad swaps stride and dilation.
#ifndef ELEMENT
#define ELEMENT f32
#endif
#ifndef STRIDE_H
#define STRIDE_H 1
#endif
#ifndef STRIDE_W
#define STRIDE_W 1
#endif
#ifndef DILATION_H
#define DILATION_H 1
#endif
#ifndef DILATION_W
#define DILATION_W 1
#endif
#ifndef CLASSES  // 1: dgrad, whose outputs fall into classes
#define CLASSES 0
#endif
#ifndef GUARD_TAPS  // 1: some stage or class has fewer taps than TAPS_R × TAPS_S
#define GUARD_TAPS 0
#endif
#ifndef LONG_SUM
#define LONG_SUM 0
#endif
#ifndef BIAS
#define BIAS 0
#endif
#ifndef RESIDUAL
#define RESIDUAL 0
#endif
#ifndef RELU
#define RELU 0
#endif

// Memory. Axes are those of tile/copy.cuh; a vector of 1 is always right, longer ones are used where addresses allow.
#ifndef INTERLEAVED
#define INTERLEAVED 0
#endif
#ifndef IN_UNIT
#define IN_UNIT kColumn
#endif
#ifndef IN_VECTOR
#define IN_VECTOR 1
#endif
#ifndef LEAD  // columns before the first needed one, so that loads start at a multiple of IN_VECTOR
#define LEAD 0
#endif
#ifndef TAPS_UNIT
#define TAPS_UNIT kColumn
#endif
#ifndef TAPS_VECTOR
#define TAPS_VECTOR 1
#endif
#ifndef OUT_UNIT  // kColumn or kLane (outputs), whichever are neighbours in memory; kRow: neither
#define OUT_UNIT kColumn
#endif

// The config.
#ifndef BLOCK_P
#define BLOCK_P 8
#endif
#ifndef BLOCK_Q
#define BLOCK_Q 32
#endif
#ifndef BLOCK_K
#define BLOCK_K 16
#endif
#ifndef BLOCK_C
#define BLOCK_C 4
#endif
#ifndef BLOCK_N
#define BLOCK_N 1
#endif
#ifndef BLOCK_G
#define BLOCK_G 1
#endif
#ifndef THREAD_P
#define THREAD_P 2
#endif
#ifndef THREAD_Q
#define THREAD_Q 4
#endif
#ifndef THREAD_K
#define THREAD_K 4
#endif
#ifndef TAPS_R
#define TAPS_R 3
#endif
#ifndef TAPS_S
#define TAPS_S 3
#endif
#ifndef K_FIRST  // 1: neighbouring threads hold neighbouring outputs and groups; 0: neighbouring columns
#define K_FIRST 0
#endif
#ifndef STAGES  // 1: load, wait, compute; more: cp.async runs that many stages ahead, less one
#define STAGES 1
#endif
#ifndef SPLITS  // more than 1: the sum is cut into as many parts, each in blocks of its own; split_sum.cu adds them
#define SPLITS 1
#endif

namespace gpuconv {
namespace {

using Element = ELEMENT;
using Sum = Accumulator<Element>;

constexpr int kThreadsP = BLOCK_P / THREAD_P, kThreadsQ = BLOCK_Q / THREAD_Q, kThreadsK = BLOCK_K / THREAD_K;
constexpr int kThreads = kThreadsP * kThreadsQ * kThreadsK * BLOCK_G * BLOCK_N;
static_assert(BLOCK_P % THREAD_P == 0 && BLOCK_Q % THREAD_Q == 0 && BLOCK_K % THREAD_K == 0,
              "threads divide their block");
static_assert(kThreads <= 1024, "a block has at most 1024 threads");

constexpr int round_up(int value, int to) { return (value + to - 1) / to * to; }

// One tap a stage needs only the cells that results start at: they are stored side by side.
constexpr bool kPackRows = TAPS_R == 1, kPackColumns = TAPS_S == 1;
constexpr int kTileStrideH = kPackRows ? 1 : STRIDE_H, kTileStrideW = kPackColumns ? 1 : STRIDE_W;
constexpr int kQuad = 16 / sizeof(Sum);  // cells of the widest shared-memory load
constexpr int kRows = (BLOCK_P - 1) * kTileStrideH + (TAPS_R - 1) * DILATION_H + 1;
constexpr int kColumnsNeeded = LEAD + (BLOCK_Q - 1) * kTileStrideW + (TAPS_S - 1) * DILATION_W + 1;
constexpr int kColumns = INTERLEAVED ? kColumnsNeeded : round_up(round_up(kColumnsNeeded, kQuad), IN_VECTOR);
static_assert(!(kPackColumns && STRIDE_W > 1 && IN_UNIT == kColumn) || IN_VECTOR == 1, "columns are apart");

// Threads that read or write at this stride from each other meet 8 banks at least, and quads stay aligned.
constexpr int spread(int cells) { return cells % 8 == 0 ? cells + 4 : cells; }

// Of a tile's axes: cells and shared-memory strides.
struct InTile {
  static constexpr int kUnit = IN_UNIT, kVector = IN_VECTOR;
  static constexpr int kDeep = BLOCK_C * BLOCK_N * BLOCK_G;
  static constexpr int kCells = kRows * kColumns * kDeep;
  static constexpr int kPlane = kDeep > 1 ? spread(kRows * kColumns) : kRows * kColumns;
  static constexpr int kPixel = K_FIRST && kThreadsK * BLOCK_G >= 32 ? kDeep : spread(kDeep);
  static constexpr int kStored = INTERLEAVED ? kRows * kColumns * kPixel : kPlane * kDeep;
  __host__ __device__ static constexpr int extent(int axis) {
    return axis == kRow ? kRows : axis == kColumn ? kColumns : axis == kChannel ? BLOCK_C : axis == kLane ? BLOCK_N : BLOCK_G;
  }
  __host__ __device__ static constexpr int stride(int axis) {
    if (!INTERLEAVED)
      return axis == kRow ? kColumns : axis == kColumn ? 1 : axis == kChannel ? kPlane : axis == kGroup ? BLOCK_C * kPlane : BLOCK_G * BLOCK_C * kPlane;
    if (axis == kRow) return kColumns * kPixel;
    if (axis == kColumn) return kPixel;
    if (kUnit == kChannel) return axis == kChannel ? 1 : axis == kGroup ? BLOCK_C : BLOCK_C * BLOCK_G;
    if (kUnit == kLane) return axis == kLane ? 1 : axis == kGroup ? BLOCK_N : BLOCK_N * BLOCK_G;
    return axis == kGroup ? 1 : axis == kLane ? BLOCK_G : BLOCK_G * BLOCK_N;
  }
};
struct TapsTile {
  static constexpr int kUnit = TAPS_UNIT, kVector = TAPS_VECTOR;
  static constexpr int kCells = TAPS_R * TAPS_S * BLOCK_C * BLOCK_K * BLOCK_G;
  static constexpr bool kGroupsInside = kUnit == kLane || kUnit == kGroup;
  static constexpr int kTap = kGroupsInside ? BLOCK_K * BLOCK_G : BLOCK_K > 1 ? spread(BLOCK_K) : 1;
  static constexpr int kBank = TAPS_R * TAPS_S * BLOCK_C * kTap;  // without groups, where they are outside
  static constexpr int kGroupStride = kGroupsInside ? BLOCK_K : BLOCK_G > 1 ? spread(round_up(kBank, 4)) : kBank;
  static constexpr int kStored = kGroupsInside ? kBank : kGroupStride * BLOCK_G;
  __host__ __device__ static constexpr int extent(int axis) {
    return axis == kRow ? TAPS_R : axis == kColumn ? TAPS_S : axis == kChannel ? BLOCK_C : axis == kLane ? BLOCK_K : BLOCK_G;
  }
  __host__ __device__ static constexpr int stride(int axis) {
    return axis == kLane ? 1 : axis == kGroup ? kGroupStride : axis == kColumn ? kTap : axis == kRow ? TAPS_S * kTap : TAPS_R * TAPS_S * kTap;
  }
};
constexpr int kInCells = round_up(InTile::kStored, kQuad), kTapsCells = round_up(TapsTile::kStored, kQuad);
constexpr bool kAsync = STAGES > 1;

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
    TileCopy<InTile, Element, Sum, kThreads, kAsync>::run(in, tile);
    taps.start[kRow] = stage.r;
    taps.start[kColumn] = stage.s;
    taps.start[kChannel] = stage.c;
    TileCopy<TapsTile, Element, Sum, kThreads, kAsync>::run(taps, tile + kInCells);
  }
};

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

  __device__ __forceinline__ void count_rows(int rows, int flush_rows) {
    if constexpr (LONG_SUM) {
      rows_summed += rows;
      if (rows_summed < flush_rows) return;
      rows_summed = 0;
      for_each([this](int p, int k, int q) {
        total[p][k][q] += part[p][k][q];
        part[p][k][q] = 0;
      });
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
        }
      }
      count_rows(TAPS_R, flush_rows);
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
    const long long row = image + (block.rows.first + i * block.rows.step) * params.out_strides.row;
    if (i >= block.rows.count) break;
#pragma unroll
    for (int k = 0; k < THREAD_K; k += kStepK) {
#pragma unroll
      for (int q = 0; q < THREAD_Q; q += kStepQ) {
        const int filter = block.k + place.k + k, j = block.q + place.q + q;
        const int left_k = params.filters - filter, left_q = block.columns.count - j;
        if (left_k <= 0 || left_q <= 0) continue;
        Accumulator<To> values[kTogether];
#pragma unroll
        for (int e = 0; e < kTogether; ++e) values[e] = sums.value(p, k + (kStepK > 1 ? e : 0), q + (kStepQ > 1 ? e : 0));
        finish.store(values, g * params.filters + filter, kStepK > 1 ? 1 : 0,
                     row + filter * params.out_strides.channel +
                         (block.columns.first + j * block.columns.step) * params.out_strides.column,
                     kStepK > 1 ? left_k : kStepQ > 1 ? left_q : 1);
      }
    }
  }
}

}  // namespace
}  // namespace gpuconv

extern "C" __global__ void __launch_bounds__(gpuconv::kThreads, 1) direct(const __grid_constant__ gpuconv::DirectParams params) {
  using namespace gpuconv;
  const Block block(params);
  if (block.p >= block.rows.count || block.q >= block.columns.count) return;  // this class has fewer

  Sum* shared = reinterpret_cast<Sum*>(ptx::dynamic_shared());
  const Place place;
  const int in_first = place.n * InTile::stride(kLane) + place.g * InTile::stride(kGroup) +
                       place.p * kTileStrideH * InTile::stride(kRow) +
                       (LEAD + place.q * kTileStrideW) * InTile::stride(kColumn);
  const int taps_first = kInCells + place.g * TapsTile::stride(kGroup) + place.k;

  Loader loader(params, block);
  const int first = block.split * params.stages_per_split;
  const int last = min(first + params.stages_per_split, params.stages);
  Stage loading(params, first), stage = loading;
  Sums sums;
  auto buffer = [&](int t) { return shared + t % STAGES * (kInCells + kTapsCells); };
  auto load = [&](int t) {
    if (t < last) {
      loader.load(loading, buffer(t - first));
      loading.next(params);
    }
    if constexpr (kAsync) ptx::cp_async_commit_group();
  };

  if constexpr (kAsync) {
#pragma unroll
    for (int t = 0; t < STAGES - 1; ++t) load(first + t);
  }
  for (int t = first; t < last; ++t) {
    if constexpr (kAsync) {
      ptx::cp_async_wait_group<STAGES - 2>();
      __syncthreads();  // everyone's copies of stage t are there, and everyone is done with stage t − 1
      load(t + STAGES - 1);
    } else {
      load(t);
      __syncthreads();
    }
    const Sum* tile = buffer(t - first);
    const int channels = min(BLOCK_C, params.channels - stage.c);
#pragma unroll 1
    for (int c = 0; c < channels; ++c)
      sums.add_channel(tile + in_first + c * InTile::stride(kChannel), tile + taps_first + c * TapsTile::stride(kChannel),
                       block.rows.taps - stage.r, block.columns.taps - stage.s, params.flush_rows);
    stage.next(params);
    if constexpr (!kAsync) __syncthreads();  // before the next stage is written over this one
  }

  if constexpr (SPLITS > 1) {
    const Epilogue<Sum, false, false, false> partial{static_cast<Sum*>(params.out), nullptr, nullptr};
    store<Sum>(partial, params, block, place, sums);
  } else {
    const Epilogue<Element, BIAS, RESIDUAL, RELU> finish{static_cast<Element*>(params.out),
                                                         static_cast<const Element*>(params.bias),
                                                         static_cast<const Element*>(params.residual)};
    store<Element>(finish, params, block, place, sums);
  }
}
