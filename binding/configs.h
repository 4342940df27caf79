// Reads and checks the configurations of models. TypeFailure for a wrong type; Error invalid_argument for a
// value out of bounds or for fields that contradict each other.
#pragma once
#include <string>

#include "control/control_net.h"
#include "control/ip_adapter.h"
#include "control/control_lllite.h"
#include "control/t2i_adapter.h"
#include "napi_all.h"
#include "text/text_encoder.h"
#include "unet/config.h"
#include "unet/k_config.h"
#include "vae/config.h"
#include "vae/tiny.h"
#include "vision/image_encoder.h"

namespace nd_binding {

nd::TextEncoderConfig read_text_encoder_config(Napi::Value value);
nd::UnetConfig read_unet_config(Napi::Value value, const std::string& name = "config");
/// Whether a UnetConfig of lib/native.ts is that of k-diffusion's UNet, which this reads.
bool has_k_blocks(Napi::Value value);
nd::KUnetConfig read_k_unet_config(Napi::Value value);
nd::ControlNetConfig read_control_net_config(Napi::Value value);
nd::ControlLlliteConfig read_control_lllite_config(Napi::Value value);
nd::T2iAdapterConfig read_t2i_adapter_config(Napi::Value value);
nd::VaeConfig read_vae_config(Napi::Value value);
nd::TinyVaeConfig read_tiny_vae_config(Napi::Value value);
nd::ImageEncoderConfig read_image_encoder_config(Napi::Value value);
nd::IpAdapterConfig read_ip_adapter_config(Napi::Value value);

/// requiredTensors of lib/native.ts: lists the tensors that a model of this kind and configuration is made
/// from.
Napi::Value required_tensors(const Napi::CallbackInfo& info);

}  // namespace nd_binding
