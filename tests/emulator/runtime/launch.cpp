// What Python calls: one launch at a time, its report afterwards.
#include <emulator/entry.h>

#include "scheduler.h"

namespace emulator {
namespace {

struct Launch {
  Index3 grid, block;
  uint32_t smem_bytes;
  uint32_t reverse, lazy;
};

bool run_grid(Index3 grid) {
  uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    uint64_t number = run.schedule.reverse ? blocks - 1 - i : i;
    Index3 index{static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                 static_cast<unsigned>(number / grid.x / grid.y)};
    if (!run_block(index)) return false;
  }
  return true;
}

}  // namespace

extern "C" int emulator_launch(const Entry* entry, const Launch* launch, const void* packed) {
  make_fibers();
  run.report = Report{};
  run.report.file = "";
  run.schedule = {launch->reverse != 0, launch->lazy != 0};
  run.thread_count = static_cast<int>(launch->block.x * launch->block.y * launch->block.z);
  run.call = entry->call;
  run.packed = packed;
  view.grid_dim = launch->grid;
  view.block_dim = launch->block;
  open_window(launch->smem_bytes);
  FaultHandlers handlers;
  return run_grid(launch->grid) && check_allocations() ? 0 : 1;
}

extern "C" const Report* emulator_report() { return &run.report; }

}  // namespace emulator
