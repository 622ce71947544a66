// Answers one slot of the arena with a session: request in the slot's memory → Run → outputs in the same slot. Owned
// by the instance's only serving thread. Inputs are used where they lie; outputs whose shape can be told beforehand
// are written in place by the runtime, others are copied from its memory. Reuses its buffers: few allocations a
// request.
//
// Never fails itself: whatever goes wrong becomes the slot's status and error_text. Also used by compile jobs for the
// probe.
#pragma once
#include <memory>
#include <vector>

#include "runtimes/onnx/canceller.h"
#include "runtimes/onnx/ort_api.h"
#include "worker_ipc/arena.h"

namespace mayfly {

class SlotRunner {
 public:
  // Borrows all three for its life. `arena` may be empty when only probe() is used.
  static Result<std::unique_ptr<SlotRunner>> create(const Ort& ort, const Session& session, const ArenaView& arena);
  void serve(std::uint32_t slot);
  // Runs on zeros (empty strings) with every free dimension set to `free_dim`; → nanoseconds inside Run.
  Result<std::uint64_t> probe(std::int64_t free_dim);

 private:
  SlotRunner(const Ort& ort, const Session& session, const ArenaView& arena);
  struct Output {
    OrtOwned<OrtValue> value;
    std::uint32_t index = 0;
    bool reported = true;  // false: computed for the classes only
    bool in_place = false;
    TensorRef ref;
  };

  Status run_request(const SlotRequest& rq, std::uint32_t slot, SlotResult& result);
  Status bind_tensors(const SlotRequest& rq, std::span<std::byte> region);
  Status bind_image(const SlotRequest& rq, std::span<std::byte> region);
  Status bind_strings(std::size_t index, const Shape& shape, std::span<const std::byte> data);
  Status bind_zeros(std::int64_t free_dim, std::vector<std::vector<std::byte>>& memory);
  void choose_outputs(std::uint64_t mask, bool classes);
  void place_outputs(std::span<std::byte> region);
  bool guess_shape(const TensorSpec& spec, Shape& shape) const;
  Result<std::uint64_t> run();
  Result<std::uint64_t> run_placed();
  Status report_outputs(std::span<std::byte> region, SlotResult& result);
  Status copy_out(Output& out, std::span<std::byte> region);
  Status copy_strings(Output& out, std::uint64_t count, std::span<std::byte> room);
  Status describe(Output& out);
  Status find_top(std::span<const std::byte> region, SlotResult& result);

  const Ort& ort_;
  const Session& session_;
  ArenaView arena_;
  TransformConfig transform_{};
  OrtOwned<OrtMemoryInfo> memory_;
  OrtOwned<OrtRunOptions> run_options_;
  std::unique_ptr<Canceller> canceller_;  // uses the run options
  std::vector<OrtOwned<OrtValue>> inputs_;
  std::vector<Output> outputs_;
  std::vector<const OrtValue*> in_;
  std::vector<OrtValue*> out_;
  std::vector<const char*> out_names_;
  std::vector<float> pixels_;
  std::vector<std::size_t> string_offsets_;
  std::vector<char> string_bytes_;
  std::vector<TopClass> scores_;
  std::int64_t batch_ = -1;  // first dimension of input 0 where the model leaves it free
  std::uint64_t used_ = 0;   // bytes of the output region given away
  bool place_ = true;        // false once the runtime has refused an output in place
};

}  // namespace mayfly
