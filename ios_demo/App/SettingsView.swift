import BlockFFNDemoModel
import BlockFFNKit
import SwiftUI

/// Length, sampling, and where the program runs.
struct SettingsView: View {
  let model: ChatModel
  @Environment(\.dismiss) private var dismiss

  private var device: Binding<ComputeDevice> {
    Binding {
      model.settings.device
    } set: { chosen in
      Task { await model.choose(chosen) }
    }
  }

  var body: some View {
    NavigationStack {
      Form {
        Section {
          Stepper(
            "At most \(model.settings.maxTokens) tokens", value: model.binding(\.maxTokens), in: 16...2048, step: 16)
        }
        Section {
          LabeledContent(
            "Temperature", value: model.settings.temperature, format: .number.precision(.fractionLength(1)))
          Slider(value: model.binding(\.temperature), in: 0...2, step: 0.1) { Text("Temperature") }
          LabeledContent("Top p", value: model.settings.topP, format: .number.precision(.fractionLength(2)))
          Slider(value: model.binding(\.topP), in: 0.05...1, step: 0.05) { Text("Top p") }
            .disabled(model.settings.temperature == 0)
        } header: {
          Text("Sampling")
        } footer: {
          Text("At temperature 0 the likeliest token is taken. Speculation never changes the text.")
        }
        if let entry = model.selected {
          Section("Model") {
            LabeledContent("Program", value: entry.program.lastPathComponent)
            LabeledContent("Size", value: entry.bytes, format: .byteCount(style: .file))
            LabeledContent("Draft head", value: entry.draftHead?.lastPathComponent ?? "none")
          }
        }
        Section {
          Picker("Run on", selection: device) {
            ForEach(ComputeDevice.allCases) { Text($0.title).tag($0) }
          }
          .accessibilityHint("Loads the model again. The answers stay.")
          LabeledContent("Runs on", value: model.placement?.title ?? "not loaded")
          if let reason = model.placement?.reason {
            Text(reason).font(.footnote).foregroundStyle(.secondary)
          }
          LabeledContent("Heat", value: model.thermal.title)
        } header: {
          Text("Device")
        } footer: {
          Text(
            """
            A GPU is used once it has computed every operation as the processor does. It reckons with more digits, so its \
            text may differ. Automatic measures both while loading.
            """)
        }
      }
      .navigationTitle("Settings")
      .navigationBarTitleDisplayMode(.inline)
      .toolbar {
        ToolbarItem(placement: .confirmationAction) { Button("Done") { dismiss() } }
      }
    }
  }
}
