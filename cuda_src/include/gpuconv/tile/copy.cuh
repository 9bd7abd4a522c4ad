// A block's threads copy a tile of five axes from global to shared memory, zeros where there is no source. Beyond
// the first and the last row and column may lie copies of others.
#pragma once

#include <gpuconv/ptx/cp_async.cuh>
#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>
#include <gpuconv/tile/border.cuh>
#include <gpuconv/tile/element.cuh>

namespace gpuconv {

enum TileAxis { kRow, kColumn, kChannel, kLane, kGroup, kTileAxes };

// Where a tile lies in global memory. Along axis a, cell i of the tile is element start + i step of the source, if
// that is from 0 to limit − 1.
template <class Element>
struct TileSource {
  const Element* base;
  long long stride[kTileAxes];
  int start[kTileAxes], limit[kTileAxes];
  int row_step, column_step;
};

// `Shape` gives, as static constexpr functions of the axis, `extent` and shared-memory `stride`, and as constants
// `kUnit`, the axis whose cells are neighbours in global memory, and `kVector`, how many of them one load takes
// where address and limits allow. Neighbouring threads take neighbouring loads.
template <class Shape, class Element, class Stored, int Threads, bool Async, int Around = kZeros>
struct TileCopy {
  static constexpr int kUnit = Shape::kUnit, kVector = Shape::kVector;
  __host__ __device__ static constexpr bool has_border(int axis) {
    return Around != kZeros && (axis == kRow || axis == kColumn);
  }
  static constexpr int kUnits = Shape::extent(kUnit) / kVector;
  static constexpr int kLoads = kUnits * (Shape::kCells / Shape::extent(kUnit));
  static_assert(Shape::extent(kUnit) % kVector == 0, "a row of the tile is a whole number of loads");
  static_assert(!Async || sizeof(Element) == sizeof(Stored), "cp.async converts nothing");

  // Whether the cells of one load are also neighbours in shared memory, and aligned there.
  static constexpr bool aligned_stride(int axis) {
    return axis == kUnit || Shape::extent(axis) == 1 || Shape::stride(axis) % kVector == 0;
  }
  static constexpr bool kTogether = Shape::stride(kUnit) == 1 && aligned_stride(kRow) && aligned_stride(kColumn) &&
                                    aligned_stride(kChannel) && aligned_stride(kLane) && aligned_stride(kGroup);
  // Cells of one shared-memory store.
  static constexpr int kStore = !kTogether ? 1 : kVector * sizeof(Stored) <= 16 ? kVector : 16 / sizeof(Stored);

  static __device__ __forceinline__ void run(const TileSource<Element>& source, Stored* tile) {
#pragma unroll 2
    for (int load = threadIdx.x; load < kLoads; load += Threads) copy(source, tile, load);
  }

 private:
  static __device__ __forceinline__ void copy(const TileSource<Element>& source, Stored* tile, int load) {
    int at[kTileAxes];
    int rest = load;
    at[kUnit] = rest % kUnits * kVector;
    rest /= kUnits;
    constexpr int kOrder[kTileAxes] = {kColumn, kRow, kChannel, kLane, kGroup};
#pragma unroll
    for (int o = 0; o < kTileAxes; ++o) {
      if (kOrder[o] == kUnit) continue;
      at[kOrder[o]] = rest % Shape::extent(kOrder[o]);
      rest /= Shape::extent(kOrder[o]);
    }
    bool inside = true;
    const Element* from = source.base;
    Stored* to = tile;
    int first = 0;  // cell of the unit axis
#pragma unroll
    for (int a = 0; a < kTileAxes; ++a) {
      int step = a == kRow ? source.row_step : a == kColumn ? source.column_step : 1;
      // unsigned: beyond the last result a tile may run past what 31 bits hold
      int cell = static_cast<int>(source.start[a] + static_cast<unsigned>(at[a]) * step);
      if (a != kUnit && has_border(a)) cell = held<Around>(cell, source.limit[a]);
      if (a == kUnit) first = cell;
      else inside = inside && static_cast<unsigned>(cell) < static_cast<unsigned>(source.limit[a]);
      from += cell * source.stride[a];
      to += at[a] * Shape::stride(a);
    }
    int limit = source.limit[kUnit];
    if constexpr (kVector > 1) {
      using Loaded = Pack<Element, kVector>;
      if (inside && first >= 0 && first <= limit - kVector && is_aligned<Loaded>(from)) {
        move(reinterpret_cast<const Loaded*>(from), to);
        return;
      }
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      int cell = first + i;
      const Element* one = from + i;
      if constexpr (has_border(kUnit)) {
        const int holds = held<Around>(cell, limit);
        one = from + (static_cast<long long>(holds) - first) * source.stride[kUnit];
        cell = holds;
      }
      bool present = inside && static_cast<unsigned>(cell) < static_cast<unsigned>(limit);
      move_one(one, to + i * Shape::stride(kUnit), present, source.base);
    }
  }

  static __device__ __forceinline__ void move(const Pack<Element, kVector>* from, Stored* to) {
    if constexpr (Async && kTogether) {
      ptx::cp_async_ca<sizeof(*from)>(to, from, sizeof(*from));
    } else if constexpr (Async) {
#pragma unroll
      for (int i = 0; i < kVector; ++i)
        ptx::cp_async_ca<sizeof(Element)>(to + i * Shape::stride(kUnit), &from->values[i], sizeof(Element));
    } else {
      auto values = ptx::ld_global_nc(from);
#pragma unroll
      for (int i = 0; i < kVector; i += kStore) {
        Pack<Stored, kStore> part;
#pragma unroll
        for (int j = 0; j < kStore; ++j) part[j] = widen(values[i + j]);
        ptx::st_shared(reinterpret_cast<Pack<Stored, kStore>*>(to + i * Shape::stride(kUnit)), part);
      }
    }
  }

  // `somewhere` is an address that is aligned for an instruction which reads nothing.
  static __device__ __forceinline__ void move_one(const Element* from, Stored* to, bool present,
                                                  const Element* somewhere) {
    if constexpr (Async) {
      ptx::cp_async_ca<sizeof(Element)>(to, present ? from : somewhere, present ? sizeof(Element) : 0);
    } else {
      ptx::st_shared(to, present ? Stored(widen(ptx::ld_global_nc(from))) : Stored(0));
    }
  }
};

}  // namespace gpuconv
