// How a block's threads bring one operand of a matrix product into a stage of shared memory, without waiting where
// copies of 4, 8 or 16 bytes allow.
#pragma once

#include <gpuconv/mma/swizzle.cuh>
#include <gpuconv/ptx/cp_async.cuh>

namespace gpuconv {

// Where a table has a place of the depth. Threads of eight places each ask for every eighth at the same time: these lie
// in different banks.
__host__ __device__ constexpr int turned(int place) { return place ^ place / 8 % 8; }

// Who copies what. Vectors of neighbours in memory lie along the depth or along the outer axis, and so do the rows
// of shared memory. Along the depth neighbouring threads take a row's neighbouring vectors of 16 bytes, so that
// requests are of whole rows; of shorter vectors, those of one piece and then the next row's, or of several pieces
// where threads are many. Along the outer axis they take 64 bytes of a row, so that a thread has to do with few places
// of the depth. Either way stores meet no bank twice.
template <class Element_, int Outer, int Depth, int Threads, bool AlongDepth, int Vector>
struct CopyMap {
  using Element = Element_;
  static constexpr int kVector = Vector;
  static constexpr bool kAlongDepth = AlongDepth;
  static constexpr int kOuterVector = AlongDepth ? 1 : Vector, kDepthVector = AlongDepth ? Vector : 1;
  static constexpr int kAcross = Outer / kOuterVector, kDown = Depth / kDepthVector;
  static constexpr int kWanted = Vector == 8 ? kDown : 8 / Vector;  // down
  static constexpr int kNeighbours = 64 / (Vector * static_cast<int>(sizeof(Element)));
  static constexpr int kThreadsDown = AlongDepth
                                          ? least(kDown, most(kWanted, Threads / kAcross))
                                          : Threads / most(least(kAcross, kNeighbours), Threads / kDown);
  static constexpr int kThreadsAcross = Threads / kThreadsDown;
  static constexpr int kOuters = kAcross / kThreadsAcross;  // of a thread
  static constexpr int kDepths = kDown / kThreadsDown;      // for each of them
  static_assert(kOuters * kThreadsAcross * kOuterVector == Outer, "threads divide the outer axis");
  static_assert(kDepths * kThreadsDown * kDepthVector == Depth, "threads divide the depth");

  // From a thread's vector to its next.
  static constexpr int kOuterStep = kThreadsAcross * kOuterVector;

  // First place of a thread's vectors in the tile.
  static __device__ __forceinline__ int outer(int p) {
    const int thread = AlongDepth ? threadIdx.x / kThreadsDown : threadIdx.x % kThreadsAcross;
    return apart(thread) * kOuterVector + p * kOuterStep;
  }
  static __device__ __forceinline__ int depth(int d) { return first_depth(threadIdx.x) + depth_step(d); }
  static __host__ __device__ __forceinline__ constexpr int first_depth(int thread) {
    return far(AlongDepth ? thread % kThreadsDown : thread / kThreadsAcross) * kDepthVector;
  }
  // From a thread's first place of the depth to another; both have no bit in common.
  static __device__ __forceinline__ constexpr int depth_step(int d) { return far(d * kThreadsDown) * kDepthVector; }
  static __device__ __forceinline__ int place(int d) { return turned(depth(d)); }

 private:
  using Rows = Swizzle<kDown * kDepthVector * static_cast<int>(sizeof(Element))>;  // where they lie along the depth
  // Of each row that many pieces, and eight pieces are stored together: of rows whose turns are as far apart.
  static constexpr int kPieces = kThreadsDown * Vector / 8;
  static constexpr bool kApart = AlongDepth && Vector < 8 && kPieces > 1 && kPieces < Rows::kPieces;
  static __device__ __forceinline__ constexpr int apart(int row) {
    constexpr int kWindows = kApart ? Rows::kPieces / kPieces : 1;
    const int turn = row / Rows::kTogether % Rows::kPieces;
    return kApart ? row + (turn % kWindows * kPieces + turn / kWindows - turn) * Rows::kTogether : row;
  }
  // The same 64 bytes of rows that are four apart lie in different banks, where rows have 128 and more.
  static constexpr bool kFar = !AlongDepth && Outer * sizeof(Element) >= 128;
  static __host__ __device__ __forceinline__ constexpr int far(int row) {
    return kFar ? row / 8 * 8 + row % 2 * 4 + row / 2 % 4 : row;
  }
};

// Whether every thread has its first place of the depth in both operands.
template <class A, class B>
__host__ __device__ constexpr bool same_depths(int threads) {
  for (int thread = 0; thread < threads; ++thread)
    if (A::first_depth(thread) != B::first_depth(thread)) return false;
  return true;
}

// Under way to a stage, row by row as `Map` has it.
template <class Map>
struct Copies {
  using Element = typename Map::Element;
  static constexpr int kSize = sizeof(Element), kBytes = Map::kVector * kSize;
  static constexpr int kRowBytes = (Map::kAlongDepth ? Map::kDown : Map::kAcross) * kBytes;
  using Rows = Swizzle<kRowBytes>;
  static constexpr int kTileBytes = (Map::kAlongDepth ? Map::kAcross : Map::kDown) * kRowBytes;
  unsigned char* tile;  // in the stage that is written
  int first;            // the thread's first vector in it

  __device__ __forceinline__ Copies()
      : first(Map::kAlongDepth ? Rows::place(Map::outer(0), Map::depth(0) * kSize)
                               : Rows::place(Map::depth(0), Map::outer(0) * kSize)) {}

  template <bool Aligned>
  __device__ __forceinline__ void load(int p, int d, Address address, bool there) {
    const int row = Map::kAlongDepth ? p * Map::kOuterStep : Map::depth_step(d);
    const int byte = (Map::kAlongDepth ? Map::depth_step(d) : p * Map::kOuterStep) * kSize;
    unsigned char* to = tile + (first ^ byte ^ Rows::turn(row)) + row * kRowBytes;
    if constexpr (Aligned && kBytes >= 4) {
      ptx::cp_async_ca<kBytes>(to, reinterpret_cast<const void*>(address), there ? kBytes : 0);
    } else {
      const Element* from = reinterpret_cast<const Element*>(address);
      Pack<Element, Map::kVector> found{};
      if (there) {
#pragma unroll
        for (int i = 0; i < Map::kVector; ++i) found[i] = ptx::ld_global_nc(from + i);
      }
      ptx::st_shared(reinterpret_cast<Pack<Element, Map::kVector>*>(to), found);
    }
  }
};

}  // namespace gpuconv
