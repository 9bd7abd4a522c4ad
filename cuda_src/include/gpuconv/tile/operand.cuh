// How a block's threads bring one operand of a matrix product from global to shared memory: OUTER pixels or filters
// by DEPTH places of the sum. Each thread holds a few vectors in registers while the block computes, then stores them.
#pragma once

#include <gpuconv/ptx/global.cuh>
#include <gpuconv/ptx/shared.cuh>
#include <gpuconv/tile/depth.cuh>
#include <gpuconv/tile/element.cuh>

namespace gpuconv {

__host__ __device__ constexpr int least(int a, int b) { return a < b ? a : b; }
__host__ __device__ constexpr int most(int a, int b) { return a > b ? a : b; }

// Who loads what. Vectors of neighbours in memory lie along the depth or along the outer axis. Of a warp, so many
// lanes lie along the depth that each pixel's neighbours there fill a sector of 32 bytes; the rest of the lanes and
// the warps go over the outer axis, so that a thread has to do with few pixels:
//
//   along the depth              along the outer axis
//   p0 k0  p1 k0  … p15 k0       p0 p1 p2 …  p31, all of one k
//   p0 k4  p1 k4  … p15 k4
template <class Element_, int Outer, int Depth, int Threads, bool AlongDepth, int Vector>
struct OperandMap {
  using Element = Element_;
  static constexpr int kVector = Vector;
  static constexpr bool kAlongDepth = AlongDepth;
  static constexpr int kOuterVector = AlongDepth ? 1 : Vector, kDepthVector = AlongDepth ? Vector : 1;
  static constexpr int kAcross = Outer / kOuterVector, kDown = Depth / kDepthVector;
  static constexpr int kSector = most(1, 32 / static_cast<int>(sizeof(Element) * Vector));
  static constexpr int kLanesDown = most(AlongDepth ? least(kSector, kDown) : 1, 32 / least(32, kAcross));
  static constexpr int kLanesAcross = 32 / kLanesDown;
  static constexpr int kWarps = Threads / 32;
  static constexpr int kWarpsAcross = least(kWarps, kAcross / kLanesAcross);
  static constexpr int kWarpsDown = kWarps / kWarpsAcross;
  static constexpr int kOuters = kAcross / (kLanesAcross * kWarpsAcross);  // of a thread
  static constexpr int kDepths = kDown / (kLanesDown * kWarpsDown);        // for each of them
  static_assert(kOuters * kLanesAcross * kWarpsAcross * kOuterVector == Outer, "threads divide the outer axis");
  static_assert(kDepths * kLanesDown * kWarpsDown * kDepthVector == Depth, "threads divide the depth");

  static constexpr int kOuterStep = kWarpsAcross * kLanesAcross * kOuterVector;  // from a thread's vector to its next

  // First place of a thread's vectors in the tile.
  static __device__ __forceinline__ int outer(int p) {
    const int warp = threadIdx.x / 32 % kWarpsAcross, lane = threadIdx.x % kLanesAcross;
    return ((p * kWarpsAcross + warp) * kLanesAcross + lane) * kOuterVector;
  }
  static __device__ __forceinline__ int depth(int d) {
    const int warp = threadIdx.x / (32 * kWarpsAcross), lane = threadIdx.x % 32 / kLanesAcross;
    return ((d * kWarpsDown + warp) * kLanesDown + lane) * kDepthVector;
  }
  // Where the table has it.
  static __device__ __forceinline__ int place(int d) { return depth(d); }
};

// An address in global memory, as a number: a compiler that sees pointers adds offsets to each other first, and all
// of them anew for every load.
using Address = unsigned long long;

// What a thread has in flight. In shared memory the operand lies as [depth][outer], `Pitch` cells from row to row.
template <class Map, class Sum, int Pitch>
struct InFlight {
  using Element = typename Map::Element;
  using Vector = Pack<Element, Map::kVector>;
  Vector values[Map::kOuters][Map::kDepths];

  template <bool Aligned>
  __device__ __forceinline__ void load(int p, int d, Address address, bool there) {
    const Element* from = reinterpret_cast<const Element*>(address);
    Vector found{};
    if constexpr (Aligned) {
      if (there) found = ptx::ld_global_nc(reinterpret_cast<const Vector*>(from));
    } else {
      if (there) {
#pragma unroll
        for (int i = 0; i < Map::kVector; ++i) found[i] = ptx::ld_global_nc(from + i);
      }
    }
    values[p][d] = found;
  }

  __device__ __forceinline__ void store(Sum* tile) const {
    Sum* first = tile + Map::depth(0) * Pitch + Map::outer(0);
#pragma unroll
    for (int d = 0; d < Map::kDepths; ++d)
#pragma unroll
      for (int p = 0; p < Map::kOuters; ++p) {
        Sum* to = first + d * Map::kWarpsDown * Map::kLanesDown * Map::kDepthVector * Pitch +
                  p * Map::kWarpsAcross * Map::kLanesAcross * Map::kOuterVector;
        constexpr int kTogether = least(Map::kOuterVector, 16 / static_cast<int>(sizeof(Sum)));
        constexpr int kStep = Map::kAlongDepth ? Pitch : 1;
#pragma unroll
        for (int i = 0; i < Map::kVector; i += kTogether) {
          Pack<Sum, kTogether> part;
#pragma unroll
          for (int j = 0; j < kTogether; ++j) part[j] = widen(values[p][d][i + j]);
          ptx::st_shared(reinterpret_cast<Pack<Sum, kTogether>*>(to + i * kStep), part);
        }
      }
  }
};

// The input: for each of the thread's pixels the cell that its first tap meets, which may lie outside. `places` are the
// operand's: see tile/depth.cuh.
template <class Map_, class Flight>
struct InOperand {
  using Map = Map_;
  Address first[Map::kOuters];
  int row[Map::kOuters], column[Map::kOuters];
  Flight flight;

  template <bool Aligned, class Places>
  __device__ __forceinline__ void load(const Places& places, unsigned rows, unsigned columns) {
#pragma unroll
    for (int d = 0; d < Map::kDepths; ++d) {
      const DepthPlace place = places[Map::place(d)];
#pragma unroll
      for (int p = 0; p < Map::kOuters; ++p) {
        const unsigned y = row[p] + place.row();
        const unsigned x = column[p] + place.column();
        flight.template load<Aligned>(p, d, first[p] + place.offset(), y < rows && x < columns);
      }
    }
  }
};

// Addresses equally far apart, in the registers of two.
struct Spaced {
  Address first;
  unsigned long long step;

  __device__ __forceinline__ Address operator[](int i) const { return first + i * step; }
};

// The taps: for each of the thread's filters the first one. Also an input that no tap leaves: its pixels lie anywhere.
template <class Map_, class Flight, class Firsts = Spaced>
struct TapsOperand {
  using Map = Map_;
  Firsts first;
  bool there[Map::kOuters];
  Flight flight;

  template <bool Aligned, class Places>
  __device__ __forceinline__ void load(const Places& places) {
#pragma unroll
    for (int d = 0; d < Map::kDepths; ++d) {
      const DepthOffset offset = places[Map::place(d)];
#pragma unroll
      for (int p = 0; p < Map::kOuters; ++p)
        flight.template load<Aligned>(p, d, first[p] + offset.bytes, there[p] && offset.there());
    }
  }
};

}  // namespace gpuconv
