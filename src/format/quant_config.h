/* quant_config.h - which quantised forms of safetensors are read: what config.json says of them. */
#ifndef FORMAT_QUANT_CONFIG_H
#define FORMAT_QUANT_CONFIG_H
#include <jansson.h>
#include "base/err.h"

/* Forms whose weights are read as they are: none; fbgemm_fp8; compressed-tensors float-quantized
 * with a scale for each row or tensor; fp8 with a scale for each tensor. The others only look
 * like weights and are refused by name. How inputs would be rounded to FP8 is passed over: here
 * they are not. `folder` names the model in the message. */
int quant_config_check(const json_t *config, const char *folder, dr_err *e);
#endif
