#pragma once
// Of sanitized builds: the JSON classes are compiled once, in json_once.cc, and not again in every file that names them.

#include <nlohmann/json.hpp>
#include <string>

#ifndef TAIPAN_JSON_ONCE
#define TAIPAN_JSON_ONCE extern template
#endif

TAIPAN_JSON_ONCE class nlohmann::basic_json<>;
TAIPAN_JSON_ONCE class nlohmann::basic_json<nlohmann::ordered_map>;
TAIPAN_JSON_ONCE class nlohmann::detail::serializer<nlohmann::json>;
TAIPAN_JSON_ONCE class nlohmann::detail::serializer<nlohmann::ordered_json>;
TAIPAN_JSON_ONCE class nlohmann::detail::parser<
    nlohmann::json, nlohmann::detail::iterator_input_adapter<std::string::const_iterator>>;
