#include "gateway/openapi.h"

#include <array>

namespace mayfly {
namespace {

// Which members an answer always has, and their types; what a newer version adds is allowed.
constexpr std::string_view kSchemas = R"json("schemas":{
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
"V1Request":{"type":"object","properties":{"signature_name":{"type":"string","enum":["","serving_default"]},
  "instances":{"type":"array","minItems":1,"items":{}},"inputs":{}}},
"V1ClassifyRequest":{"type":"object","required":["examples"],"properties":{
  "signature_name":{"type":"string","enum":["","serving_default"]},
  "examples":{"type":"array","minItems":1,"items":{}}}},
"V1ModelListEntry":{"type":"object","required":["id","object","created","owned_by"],"properties":{
  "id":{"type":"string"},"object":{"type":"string","enum":["model"]},"created":{"type":"integer"},
  "owned_by":{"type":"string"}}},
"Class":{"type":"object","required":["index","score"],"properties":{
  "label":{"type":"string"},"index":{"type":"integer"},"score":{"type":"number","nullable":true}}},
"EndpointSummary":{"type":"object","required":["name","version","state","instances","ready","requests","errors"],
  "properties":{"name":{"type":"string"},"version":{"type":"integer"},
  "state":{"type":"string","enum":["warm","parked","starting","cold"]},"instances":{"type":"integer"},"ready":{"type":"integer"},
  "queued":{"type":"integer"},"requests":{"type":"integer"},"errors":{"type":"integer"},
  "cold_starts":{"type":"integer"},"created_ms":{"type":"integer"}}},
"Instance":{"type":"object","required":["id","endpoint","version","pid","state"],"properties":{
  "id":{"type":"integer"},"endpoint":{"type":"string"},"version":{"type":"integer"},"pid":{"type":"integer"},
  "state":{"type":"string"},"requests":{"type":"integer"},"memory_bytes":{"type":"integer"},
  "tier":{"enum":["mapped","building","packed","no_memory","failed"]}}},
"Key":{"type":"object","required":["id","name","scopes"],"properties":{
  "id":{"type":"string"},"name":{"type":"string"},"scopes":{"type":"array","items":{"type":"string"}},
  "created_ms":{"type":"integer"},"revoked":{"type":"boolean"},"key":{"type":"string"},"under_way":{"type":"integer"},
  "rate":{"type":"number","nullable":true,"minimum":0,"maximum":1000000},"burst":{"type":"integer","nullable":true,"minimum":0,"maximum":1000000},
  "concurrency":{"type":"integer","nullable":true,"minimum":0,"maximum":100000},"weight":{"type":"integer","nullable":true,"minimum":1,"maximum":100}}}
},)json";

constexpr std::string_view kRequestBodies = R"json("requestBodies":{
"Infer":{"required":true,"description":"JSON; with binary tensors behind it, Inference-Header-Content-Length is the JSON's length.",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/InferRequest"}}}},
"V1Predict":{"required":true,"content":{"application/json":{"schema":{"$ref":"#/components/schemas/V1Request"}}}},
"V1Classify":{"required":true,
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/V1ClassifyRequest"}}}},
"Invocation":{"required":false,"description":"V1, V2 or an array of rows; numbers a line; a picture",
  "content":{"application/json":{"schema":{}},"text/csv":{"schema":{"type":"string"}},
  "image/png":{"schema":{"type":"string","format":"binary"}},
  "application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"Generate":{"required":true,"description":"inputs by name; other members are ignored",
  "content":{"application/json":{"schema":{"type":"object"}}}},
"Index":{"required":false,"content":{"application/json":{"schema":{"type":"object","properties":{
  "ready":{"type":"boolean"}}}}}},
"Options":{"required":false,"content":{"application/json":{"schema":{"type":"object"}}}},
"Region":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["key","byte_size"],
  "properties":{"key":{"type":"string"},"offset":{"type":"integer","minimum":0},
  "byte_size":{"type":"integer","minimum":1}}}}}},
"Any":{"required":false,"content":{"application/json":{"schema":{}}}},
"Bytes":{"required":true,"content":{"application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"Deploy":{"required":true,"content":{"application/json":{"schema":{"type":"object","description":"one of package and source","properties":{
  "package":{"type":"string","description":"a digest that POST /admin/v1/packages answered"},
  "source":{"type":"string","description":"https://, s3:// or oci:// address that the server reads"},"spec":{"type":"object"}}}}}},
"NewKey":{"required":true,"content":{"application/json":{"schema":{"type":"object","required":["name","scopes"],"properties":{
  "name":{"type":"string","minLength":1,"maxLength":100},
  "scopes":{"type":"array","minItems":1,"items":{"type":"string","enum":["invoke","deploy","admin"]}},
  "rate":{"type":"number","nullable":true,"minimum":0,"maximum":1000000},"burst":{"type":"integer","nullable":true,"minimum":0,"maximum":1000000},
  "concurrency":{"type":"integer","nullable":true,"minimum":0,"maximum":100000},"weight":{"type":"integer","nullable":true,"minimum":1,"maximum":100}}}}}},
"KeyLimits":{"required":true,"content":{"application/json":{"schema":{"type":"object","additionalProperties":false,"properties":{
  "rate":{"type":"number","nullable":true,"minimum":0,"maximum":1000000},"burst":{"type":"integer","nullable":true,"minimum":0,"maximum":1000000},
  "concurrency":{"type":"integer","nullable":true,"minimum":0,"maximum":100000},"weight":{"type":"integer","nullable":true,"minimum":1,"maximum":100}}}}}}
},)json";

constexpr std::string_view kResponses = R"json("responses":{
"Error":{"description":"what was attempted, on what, and what to do; Mayfly-Reason is stable",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Error"}}}},
"TorchServeError":{"description":"as TorchServe says it",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/TorchServeError"}}}},
"SageMakerError":{"description":"as the SageMaker runtime says it; x-amzn-ErrorType is the code",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/SageMakerError"}}}},
"Infer":{"description":"the outputs; with binary ones, application/octet-stream and Inference-Header-Content-Length",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/InferResponse"}},
  "application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"V1Predict":{"description":"predictions of the row form, outputs of the column form",
  "content":{"application/json":{"schema":{"type":"object","properties":{
  "predictions":{"type":"array","items":{}},"outputs":{}}}}}},
"V1Classify":{"description":"for each example pairs of label and score, best first",
  "content":{"application/json":{"schema":{"type":"object","required":["results"],"properties":{
  "results":{"type":"array","items":{"type":"array","items":{"type":"array","items":{}}}}}}}}},
"V1ModelList":{"description":"models: names (KServe), data (OpenAI)","content":{"application/json":{"schema":{
  "type":"object","required":["models","object","data"],"properties":{
  "models":{"type":"array","items":{"type":"string"}},"object":{"type":"string","enum":["list"]},
  "data":{"type":"array","items":{"$ref":"#/components/schemas/V1ModelListEntry"}}}}}}},
"V1Model":{"description":"readiness, versions and the model","content":{"application/json":{"schema":{
  "allOf":[{"$ref":"#/components/schemas/V1ModelListEntry"}],"type":"object","required":["name","ready","model_version_status"],
  "properties":{"name":{"type":"string"},"ready":{"type":"boolean"},"model_version_status":{"type":"array","items":{
  "type":"object","required":["version","state","status"],"properties":{"version":{"type":"string"},
  "state":{"type":"string"},"status":{"type":"object"}}}}}}}}},
"V1Metadata":{"description":"the signature","content":{"application/json":{"schema":{"type":"object",
  "required":["model_spec","metadata"],"properties":{"model_spec":{"type":"object"},"metadata":{"type":"object"}}}}}},
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
"Invocation":{"description":"the answer in the form of the request; text/csv where Accept asks for it",
  "content":{"application/json":{"schema":{"type":"object"}},"text/csv":{"schema":{"type":"string"}},
  "application/octet-stream":{"schema":{"type":"string","format":"binary"}}}},
"Ping":{"description":"Healthy","content":{"application/json":{"schema":{"type":"object","required":["status"],
  "properties":{"status":{"type":"string"}}}}}},
"TorchModels":{"description":"models","content":{"application/json":{"schema":{"type":"object","required":["models"],
  "properties":{"nextPageToken":{"type":"string"},"models":{"type":"array","items":{"type":"object",
  "required":["modelName","modelUrl"]}}}}}}},
"TorchModel":{"description":"a list of one","content":{"application/json":{"schema":{"type":"array","items":{
  "type":"object","required":["modelName","modelVersion","workers"]}}}}},
"Generate":{"description":"outputs by name","content":{"application/json":{"schema":{"type":"object",
  "required":["model_name","model_version"]}}}},
"EventStream":{"description":"one event, whose data is what generate answers",
  "content":{"text/event-stream":{"schema":{"type":"string"}}}},
"ModelConfig":{"description":"configuration","content":{"application/json":{"schema":{"type":"object",
  "required":["name","platform","backend","max_batch_size","input","output"],"properties":{"name":{"type":"string"},
  "input":{"type":"array","items":{"type":"object"}},"output":{"type":"array","items":{"type":"object"}}}}}}},
"Stats":{"description":"statistics","content":{"application/json":{"schema":{"type":"object","required":["model_stats"],
  "properties":{"model_stats":{"type":"array","items":{"type":"object",
  "required":["name","version","inference_count","execution_count","inference_stats"]}}}}}}},
"RepositoryIndex":{"description":"versions","content":{"application/json":{"schema":{"type":"array","items":{
  "type":"object","required":["name","version","state"],"properties":{"name":{"type":"string"},
  "version":{"type":"string"},"state":{"type":"string"},"reason":{"type":"string"}}}}}}},
"Nothing":{"description":"done","content":{"application/json":{"schema":{"type":"object"}}}},
"Settings":{"description":"the settings as they are now","content":{"application/json":{"schema":{"type":"object"}}}},
"Regions":{"description":"regions","content":{"application/json":{"schema":{"type":"array","items":{"type":"object",
  "required":["name","key","offset","byte_size"],"properties":{"name":{"type":"string"},"key":{"type":"string"},
  "offset":{"type":"integer"},"byte_size":{"type":"integer"}}}}}}},
"ModelMetadata":{"description":"metadata",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/ModelMetadata"}}}},
"Package":{"description":"stored","content":{"application/json":{"schema":{"type":"object","required":["digest","bytes"],
  "properties":{"digest":{"type":"string"},"bytes":{"type":"integer"}}}}}},
"EndpointList":{"description":"endpoints","content":{"application/json":{"schema":{"type":"object","required":["endpoints"],
  "properties":{"endpoints":{"type":"array","items":{"$ref":"#/components/schemas/EndpointSummary"}}}}}}},
"Endpoint":{"description":"an endpoint","content":{"application/json":{"schema":{"type":"object",
  "required":["name","version","state","instances","versions"],"properties":{"name":{"type":"string"},
  "version":{"type":"integer"},"state":{"type":"string","enum":["warm","parked","starting","cold"]},
  "instances":{"type":"array","items":{"$ref":"#/components/schemas/Instance"}},
  "versions":{"type":"array","items":{"type":"object"}}}}}}},
"Deleted":{"description":"deleted","content":{"application/json":{"schema":{"type":"object","required":["deleted"],
  "properties":{"deleted":{"type":"string"}}}}}},
"Deployed":{"description":"the version is live","content":{"application/json":{"schema":{"type":"object",
  "required":["name","version","url"],"properties":{"name":{"type":"string"},"version":{"type":"integer"},
  "url":{"type":"string"}}}}}},
"LogLines":{"description":"log lines","content":{"application/json":{"schema":{"type":"object","required":["lines"],
  "properties":{"lines":{"type":"array","items":{"type":"string"}}}}}}},
"Explanation":{"description":"its state and why","content":{"application/json":{"schema":{"type":"object",
  "required":["name","version","state","why","next_request","held","counts","events"],"properties":{
  "name":{"type":"string"},"version":{"type":"integer"},
  "state":{"type":"string","enum":["warm","parked","starting","cold"]},"why":{"type":"string"},
  "next_request":{"type":"object","required":["finds"],"properties":{
    "finds":{"type":"string","enum":["warm","parked","cold"]},"wait_ms":{"type":"number","nullable":true}}},
  "held":{"type":"object","required":["warm","parked","reason"],"properties":{"warm":{"type":"integer"},
    "parked":{"type":"integer"},"reason":{"type":"string"}}},
  "counts":{"type":"object"},"memory":{"type":"object"},"storage":{"type":"object"},"last_eviction":{"type":"string"},
  "events":{"type":"array","items":{"type":"object","required":["time","event"],"properties":{
    "time":{"type":"string"},"event":{"type":"string"},"instance":{"type":"integer"},
    "detail":{"type":"string"}}}}}}}}},
"Woken":{"description":"it is on its way","content":{"application/json":{
  "schema":{"$ref":"#/components/schemas/EndpointSummary"}}}},
"Node":{"description":"memory and instances of this node","content":{"application/json":{"schema":{"type":"object",
  "required":["memory","disk","instances"],"properties":{"memory":{"type":"object"},"disk":{"type":"object"},"instances":{"type":"object"}}}}}},
"InstanceList":{"description":"instances","content":{"application/json":{"schema":{"type":"object","required":["instances"],
  "properties":{"instances":{"type":"array","items":{"$ref":"#/components/schemas/Instance"}}}}}}},
"KeyList":{"description":"keys","content":{"application/json":{"schema":{"type":"object","required":["keys"],
  "properties":{"keys":{"type":"array","items":{"$ref":"#/components/schemas/Key"}}}}}}},
"KeyRow":{"description":"the key as it is now",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Key"}}}},
"NewKey":{"description":"the key; its secret is shown once",
  "content":{"application/json":{"schema":{"$ref":"#/components/schemas/Key"}}}},
"Revoked":{"description":"revoked","content":{"application/json":{"schema":{"type":"object","required":["revoked"],
  "properties":{"revoked":{"type":"string"}}}}}},
"Metrics":{"description":"Prometheus text, version 0.0.4","content":{"text/plain":{"schema":{"type":"string"}}}},
"OpenApi":{"description":"OpenAPI 3.0","content":{"application/json":{"schema":{"type":"object"}}}}
})json";

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
