#include "gateway/openapi.h"

#include <array>

namespace mayfly {
namespace {

// Which members an answer always has, and their types; what a newer version adds is allowed.
constexpr std::string_view kSchemas = R"("schemas":{
"Error":{"type":"object","required":["error"],"properties":{"error":{"type":"string"}}},
"TorchServeError":{"type":"object","required":["code","type","message","error"],"properties":{
  "code":{"type":"integer"},"type":{"type":"string"},"message":{"type":"string"},"error":{"type":"string"}}},
"SageMakerError":{"type":"object","required":["Code","Message"],"properties":{
  "Code":{"type":"string"},"Message":{"type":"string"},
  "OriginalStatusCode":{"type":"integer"},"OriginalMessage":{"type":"string"}}},
"Datatype":{"type":"string","enum":["BOOL","UINT8","UINT16","UINT32","UINT64","INT8","INT16","INT32","INT64","FP16","FP32",
  "FP64","BF16","BYTES"]},
"Shape":{"type":"array","items":{"type":"integer"}},
"Dimensions":{"type":"array","maxItems":8,"items":{"type":"integer","format":"int64","minimum":0}},
"Data":{"type":"array","items":{}},
"TensorSpec":{"type":"object","required":["name","datatype","shape"],"properties":{
  "name":{"type":"string"},"datatype":{"$ref":"#/components/schemas/Datatype"},
  "shape":{"$ref":"#/components/schemas/Shape"}}},
"ModelMetadata":{"type":"object","required":["name","versions","platform","inputs","outputs"],"properties":{
  "name":{"type":"string"},"versions":{"type":"array","items":{"type":"string"}},"platform":{"type":"string"},
  "inputs":{"type":"array","items":{"$ref":"#/components/schemas/TensorSpec"}},
  "outputs":{"type":"array","items":{"$ref":"#/components/schemas/TensorSpec"}}}},
"Parameters":{"type":"object"},
"InferInput":{"type":"object","required":["name","shape","datatype"],"properties":{
  "name":{"type":"string"},"shape":{"$ref":"#/components/schemas/Dimensions"},
  "datatype":{"$ref":"#/components/schemas/Datatype"},"data":{"$ref":"#/components/schemas/Data"},
  "parameters":{"$ref":"#/components/schemas/Parameters"}}},
"InferRequest":{"type":"object","required":["inputs"],"properties":{
  "id":{"type":"string","maxLength":1024},"parameters":{"$ref":"#/components/schemas/Parameters"},
  "inputs":{"type":"array","items":{"$ref":"#/components/schemas/InferInput"}},
  "outputs":{"type":"array","items":{"type":"object","required":["name"],"properties":{
    "name":{"type":"string"},"parameters":{"$ref":"#/components/schemas/Parameters"}}}}}},
"InferResponse":{"type":"object","required":["model_name","model_version","outputs"],"properties":{
  "model_name":{"type":"string"},"model_version":{"type":"string"},"id":{"type":"string"},
  "outputs":{"type":"array","items":{"type":"object","required":["name","datatype","shape"],"properties":{
    "name":{"type":"string"},"datatype":{"type":"string"},"shape":{"type":"array","items":{"type":"integer"}},
    "data":{"$ref":"#/components/schemas/Data"},"parameters":{"$ref":"#/components/schemas/Parameters"}}}}}},
"Class":{"type":"object","required":["index","score"],"properties":{
  "label":{"type":"string"},"index":{"type":"integer"},"score":{"type":"number","nullable":true}}},
"EndpointSummary":{"type":"object","required":["name","version","state","instances","ready","requests","errors"],
  "properties":{"name":{"type":"string"},"version":{"type":"integer"},
  "state":{"type":"string","enum":["warm","starting","cold"]},"instances":{"type":"integer"},"ready":{"type":"integer"},
  "queued":{"type":"integer"},"requests":{"type":"integer"},"errors":{"type":"integer"},
  "cold_starts":{"type":"integer"},"created_ms":{"type":"integer"}}},
"Instance":{"type":"object","required":["id","endpoint","version","pid","state"],"properties":{
  "id":{"type":"integer"},"endpoint":{"type":"string"},"version":{"type":"integer"},"pid":{"type":"integer"},
  "state":{"type":"string"},"requests":{"type":"integer"},"memory_bytes":{"type":"integer"}}},
"Key":{"type":"object","required":["id","name","scopes"],"properties":{
  "id":{"type":"string"},"name":{"type":"string"},"scopes":{"type":"array","items":{"type":"string"}},
  "created_ms":{"type":"integer"},"revoked":{"type":"boolean"},"key":{"type":"string"}}}
},)";

constexpr std::string_view kRequestBodies = R"("requestBodies":{
"Infer":{"required":true,"description":"JSON; with binary tensors behind it, Inference-Header-Content-Length is the JSON's length.",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/InferRequest"}}}},
"Bytes":{"required":true,"content":{"application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"Deploy":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["package"],"properties":{
  "package":{"type":"string","description":"a digest that POST /admin/v1/packages answered"},"spec":{"type":"object"}}}}}},
"NewKey":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["name","scopes"],"properties":{
  "name":{"type":"string","minLength":1,"maxLength":100},
  "scopes":{"type":"array","minItems":1,"items":{"type":"string","enum":["invoke","deploy","admin"]}}}}}}}
},)";

constexpr std::string_view kResponses = R"("responses":{
"Error":{"description":"what was attempted, on what, and what to do; Mayfly-Reason is stable",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Error"}}}},
"TorchServeError":{"description":"as TorchServe says it",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/TorchServeError"}}}},
"SageMakerError":{"description":"as the SageMaker runtime says it; x-amzn-ErrorType is the code",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/SageMakerError"}}}},
"Infer":{"description":"the outputs; with binary ones, application/octet-stream and Inference-Header-Content-Length",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/InferResponse"}},
  "application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"Predictions":{"description":"outputs, or classes",
  "content":{"application/json":{"schema":{"type":"object","required":["model_name","model_version"]}},
  "application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"ServerMetadata":{"description":"what this is","content":{"application/json":{"schema":{"type":"object",
  "required":["name","version","extensions"],"properties":{"name":{"type":"string"},"version":{"type":"string"},
  "extensions":{"type":"array","items":{"type":"string"}}}}}}},
"Live":{"description":"alive","content":{"application/json":{"schema":{"type":"object","required":["live"],
  "properties":{"live":{"type":"boolean"}}}}}},
"Ready":{"description":"ready","content":{"application/json":{"schema":{"type":"object","required":["ready"],
  "properties":{"ready":{"type":"boolean"}}}}}},
"ModelReady":{"description":"ready","content":{"application/json":{"schema":{"type":"object","required":["name","ready"],
  "properties":{"name":{"type":"string"},"ready":{"type":"boolean"}}}}}},
"ModelList":{"description":"models","content":{"application/json":{"schema":{"type":"object","required":["models"],
  "properties":{"models":{"type":"array","items":{"$ref":"#/components/schemas/ModelMetadata"}}}}}}},
"ModelMetadata":{"description":"metadata",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/ModelMetadata"}}}},
"Package":{"description":"stored","content":{"application/json":{"schema":{"type":"object","required":["digest","bytes"],
  "properties":{"digest":{"type":"string"},"bytes":{"type":"integer"}}}}}},
"EndpointList":{"description":"endpoints","content":{"application/json":{"schema":{"type":"object","required":["endpoints"],
  "properties":{"endpoints":{"type":"array","items":{"$ref":"#/components/schemas/EndpointSummary"}}}}}}},
"Endpoint":{"description":"an endpoint","content":{"application/json":{"schema":{
  "allOf":[{"$ref":"#/components/schemas/EndpointSummary"}]}}}},
"Deleted":{"description":"deleted","content":{"application/json":{"schema":{"type":"object","required":["deleted"],
  "properties":{"deleted":{"type":"string"}}}}}},
"Deployed":{"description":"the version is live","content":{"application/json":{"schema":{"type":"object",
  "required":["name","version","url"],"properties":{"name":{"type":"string"},"version":{"type":"integer"},
  "url":{"type":"string"}}}}}},
"LogLines":{"description":"log lines","content":{"application/json":{"schema":{"type":"object","required":["lines"],
  "properties":{"lines":{"type":"array","items":{"type":"string"}}}}}}},
"InstanceList":{"description":"instances","content":{"application/json":{"schema":{"type":"object","required":["instances"],
  "properties":{"instances":{"type":"array","items":{"$ref":"#/components/schemas/Instance"}}}}}}},
"KeyList":{"description":"keys","content":{"application/json":{"schema":{"type":"object","required":["keys"],
  "properties":{"keys":{"type":"array","items":{"$ref":"#/components/schemas/Key"}}}}}}},
"NewKey":{"description":"the key; its secret is shown once",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Key"}}}},
"Revoked":{"description":"revoked","content":{"application/json":{"schema":{"type":"object","required":["revoked"],
  "properties":{"revoked":{"type":"string"}}}}}},
"Metrics":{"description":"Prometheus text, version 0.0.4","content":{"text/plain":{"schema":{"type":"string"}}}},
"OpenApi":{"description":"OpenAPI 3.0","content":{"application/json":{"schema":{"type":"object"}}}}
})";

}  // namespace

std::string_view openapi_components() {
  static constexpr auto kAll = [] {
    constexpr std::size_t n = kSchemas.size() + kRequestBodies.size() + kResponses.size();
    std::array<char, n> out{};
    std::size_t at = 0;
    for (std::string_view part : {kSchemas, kRequestBodies, kResponses}) {
      for (char c : part) out[at++] = c;
    }
    return out;
  }();
  return {kAll.data(), kAll.size()};
}

}  // namespace mayfly
