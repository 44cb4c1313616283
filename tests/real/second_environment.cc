// An add-on that puts a second node::Environment on the isolate it is loaded into, as an embedder may.

#include <node.h>

namespace {

using v8::Context;
using v8::FunctionCallbackInfo;
using v8::HandleScope;
using v8::Isolate;
using v8::Local;
using v8::Object;
using v8::Value;

node::IsolateData* isolate_data;
node::Environment* environment;

void Create(const FunctionCallbackInfo<Value>& args) {
  Isolate* isolate = args.GetIsolate();
  HandleScope scope(isolate);
  node::Environment* first = node::GetCurrentEnvironment(isolate->GetCurrentContext());
  isolate_data = node::CreateIsolateData(
      isolate, node::GetCurrentEventLoop(isolate), node::GetMultiIsolatePlatform(first));
  Local<Context> context = node::NewContext(isolate);
  Context::Scope inside(context);
  // Signal handlers and the inspector are the process's, and the first environment has them.
  const auto flags = static_cast<node::EnvironmentFlags::Flags>(
      node::EnvironmentFlags::kNoCreateInspector | node::EnvironmentFlags::kNoRegisterESMLoader |
      node::EnvironmentFlags::kNoStartDebugSignalHandler);
  environment = node::CreateEnvironment(isolate_data, context, {"node"}, {}, flags);
  args.GetReturnValue().Set(!node::LoadEnvironment(environment, "globalThis.second = 2;").IsEmpty());
}

void Free(const FunctionCallbackInfo<Value>&) {
  node::FreeEnvironment(environment);
  node::FreeIsolateData(isolate_data);
}

void Initialize(Local<Object> exports, Local<Value>, void*) {
  NODE_SET_METHOD(exports, "create", Create);
  NODE_SET_METHOD(exports, "free", Free);
}

}  // namespace

NODE_MODULE(second_environment, Initialize)
