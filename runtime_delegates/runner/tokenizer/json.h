// A strict JSON reader (RFC 8259): valid UTF-8 only, no lone surrogates, at most 64 levels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace blockffn::runner {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;  // in the file's order; names are unique

  // Throws std::runtime_error with the reason.
  static Json parse(const char* text, size_t bytes);

  bool is_null() const { return value.index() == 0; }
  // nullptr if it is another type.
  const bool* boolean() const { return std::get_if<bool>(&value); }
  const double* number() const { return std::get_if<double>(&value); }
  const std::string* string() const { return std::get_if<std::string>(&value); }
  const Array* array() const { return std::get_if<Array>(&value); }
  const Object* object() const { return std::get_if<Object>(&value); }
  // A member of an object; a null value if there is none or this is no object.
  const Json& operator[](std::string_view name) const;
  // A whole number from 0 to largest, else -1.
  int64_t index(int64_t largest) const;

  std::variant<std::nullptr_t, bool, double, std::string, Array, Object> value = nullptr;
};

}  // namespace blockffn::runner
