// What lies around an image, along one axis: which of its cells a cell beyond it holds, and back.
#pragma once

namespace gpuconv {

// As gpuconv/kernels/cuda/border.py numbers them.
enum Border { kZeros, kReflect, kReplicate, kCircular };

// The cell of the image that a cell of the padded one holds. Further off than a padding reaches it may be none: no
// result takes those.
template <int Mode>
__device__ __forceinline__ int held(int cell, int size) {
  if (Mode == kZeros || static_cast<unsigned>(cell) < static_cast<unsigned>(size)) return cell;
  if (Mode == kReplicate) return cell < 0 ? 0 : size - 1;
  // unsigned: such a cell may lie anywhere
  const unsigned from = cell, mirror = cell < 0 ? 0 : 2u * (size - 1);
  if (Mode == kReflect) return static_cast<int>(mirror - from);
  return static_cast<int>(cell < 0 ? from + size : from - size);
}

// The cells of the padded image that hold a cell of the image, itself the first: `count` candidates, of which `at`
// says whether they are there.
template <int Mode>
struct Holders {
  int cell, size, before, behind, count, nearer;

  __device__ __forceinline__ Holders(int cell, int size, int before, int behind)
      : cell(cell), size(size), before(before), behind(behind), nearer(cell == 0 ? before : 0) {
    count = Mode == kReplicate ? 1 + nearer + (cell == size - 1 ? behind : 0) : 3;
  }

  __device__ __forceinline__ bool at(int index, int& holder) const {
    holder = cell;
    if (index == 0) return true;
    if (Mode == kReplicate) {
      holder = index <= nearer ? -index : size - 1 + index - nearer;
      return true;
    }
    const bool ahead = index == 1;
    if (Mode == kReflect) holder = (ahead ? 0 : 2 * (size - 1)) - cell;
    else holder = ahead ? cell - size : cell + size;
    return ahead ? holder < 0 && holder >= -before : holder >= size && holder < size + behind;
  }
};

}  // namespace gpuconv
