// Compiled, linked and run before a build, with the standard that the tag needs: what clang accepts with an old
// libstdc++, and a standard library that is not found when a program starts, fail here and not after an hour.
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#if __cplusplus > 201703L
#include <bit>
#include <compare>
#include <concepts>
#include <span>
#endif

namespace {
#if __cplusplus > 201703L
template <std::integral T>
constexpr T Twice(std::span<const T> values) {
  T sum = 0;
  for (T value : values) sum += [](T one) { return 2 * one; }(value);
  return sum;
}

struct Version {
  int major = 0, minor = 0;
  auto operator<=>(const Version&) const = default;
};
#endif

std::optional<uint64_t> Length(std::string_view text) {
  if (text.empty()) return std::nullopt;
  return text.size();
}
}  // namespace

int main(int, char** argv) {
  bool good = Length(std::string(argv[0])).has_value();
#if __cplusplus > 201703L
  const int values[] = {1, 2};
  good = good && Twice<int>(values) == 6 && Version{.major = 20} < Version{.major = 22} && std::has_single_bit(8u);
#endif
  return good ? 0 : 1;
}
