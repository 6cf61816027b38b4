#define TAIPAN_JSON_ONCE template
#include "json_once.h"
