#include "runtimes/onnx/prefault.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <memory>

#include "base/fd.h"

namespace mayfly {
namespace {

constexpr std::size_t kBytes = 8 << 20;
constexpr std::size_t kPage = 4096;
constexpr long kFaultAround = kBytes / (64 << 10);  // the kernel maps 64 KiB of a file at a fault

long faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

// Faults of reading a byte of each page; without the sanitizer, whose own memory has faults too.
__attribute__((no_sanitize("address"))) long faults_of_reading(const Mapping& m) {
  const volatile char* p = static_cast<const char*>(m.data());
  const long before = faults();
  for (std::size_t i = 0; i < m.size(); i += kPage) static_cast<void>(p[i]);
  return faults() - before;
}

class PrefaultTest : public ::testing::Test {
 protected:
  void SetUp() override {
    file_.reset(memfd_create("artefact", MFD_CLOEXEC));
    ASSERT_EQ(ftruncate(file_.get(), kBytes), 0);
    const std::string page(kPage, 'x');  // memory that exists: a hole would be made at the fault
    for (std::size_t i = 0; i < kBytes; i += kPage) ASSERT_EQ(write(file_.get(), page.data(), kPage), long{kPage});
  }
  Mapping map() const { return Mapping(mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, file_.get(), 0), kBytes); }
  static std::span<const std::byte> bytes(const Mapping& m) {
    return {static_cast<const std::byte*>(m.data()), m.size()};
  }
  Fd file_;
};

TEST_F(PrefaultTest, ReadingTheArtefactHasNoFaults) {
  const Mapping plain = map(), prepared = map();
  EXPECT_GE(faults_of_reading(plain), kFaultAround / 2);
  {
    const Prefault prefault(bytes(prepared), 0);
  }  // waits for its thread
  EXPECT_LE(faults_of_reading(prepared), kFaultAround / 16);
}

TEST_F(PrefaultTest, TakesAnyHeapSize) {
  const Mapping m = map();
  for (const std::uint64_t heap :
       {std::uint64_t{1}, std::uint64_t{3} << 20, std::uint64_t{40} << 20, ~std::uint64_t{0}}) {
    {
      const Prefault prefault(bytes(m).first(kPage), heap);
    }
    auto memory = std::make_unique<char[]>(3 << 20);  // the heap works as before
    memory[0] = 1;
    EXPECT_EQ(memory[0], 1);
  }
}

TEST_F(PrefaultTest, AMappingThatIsGoneHarmsNothing) {
  const Mapping m = map();
  ASSERT_EQ(ftruncate(file_.get(), kPage), 0);  // reading behind its end would be SIGBUS
  const Prefault prefault(bytes(m), 0);
}

}  // namespace
}  // namespace mayfly
