import Accessibility
import BlockFFNDemoModel
import SwiftUI
import UIKit

/// Prompt, streamed answers, and one line of figures under each.
struct ChatView: View {
  let model: ChatModel
  /// What is measured would change if an answer ran beside it.
  let isMeasuring: Bool
  @State private var picksFolder = false
  @State private var showsSettings = false

  var body: some View {
    NavigationStack {
      VStack(spacing: 0) {
        if let notice = model.notice {
          NoticeBanner(text: notice) { model.notice = nil }
        }
        content
        if model.selected != nil {
          Composer(model: model, isMeasuring: isMeasuring)
        }
      }
      .navigationTitle("BlockFFN")
      .navigationBarTitleDisplayMode(.inline)
      .toolbar {
        ToolbarItem(placement: .topBarLeading) { ModelMenu(model: model, picksFolder: $picksFolder) }
        ToolbarItem(placement: .topBarTrailing) {
          Button("Settings", systemImage: "slider.horizontal.3") { showsSettings = true }
        }
      }
      .sheet(isPresented: $showsSettings) { SettingsView(model: model) }
      .fileImporter(isPresented: $picksFolder, allowedContentTypes: [.folder]) { result in
        switch result {
        case .success(let folder):
          FolderBookmarks.add(folder)
          Task { await model.importFolder(folder) }
        case .failure(let error): model.notice = error.localizedDescription
        }
      }
    }
  }

  @ViewBuilder private var content: some View {
    switch model.phase {
    case .noModel:
      ContentUnavailableView {
        Label("No model", systemImage: "shippingbox")
      } description: {
        Text("Choose the folder that export/to_executorch.py wrote: a program (.pte) and its tokenizer.json.")
      } actions: {
        Button("Choose a folder") { picksFolder = true }.buttonStyle(.borderedProminent)
      }
    case .loading(let name):
      ProgressView("Loading \(name)").frame(maxWidth: .infinity, maxHeight: .infinity)
    case .failed(let reason):
      ContentUnavailableView {
        Label("The model cannot be loaded", systemImage: "exclamationmark.triangle")
      } description: {
        Text(reason)
      } actions: {
        Button("Try again") { Task { await model.retry() } }
      }
    case .ready, .generating, .unloaded:
      Turns(model: model)
    }
  }
}

/// The answers; the last one is kept in sight while it grows.
private struct Turns: View {
  let model: ChatModel

  var body: some View {
    ScrollViewReader { scroll in
      ScrollView {
        LazyVStack(alignment: .leading, spacing: 20) {
          ForEach(model.turns) { TurnView(turn: $0) }
          Color.clear.frame(height: 1).id("end").accessibilityHidden(true)
        }
        .padding()
      }
      .scrollDismissesKeyboard(.interactively)
      .onChange(of: model.turns.last?.answer) { scroll.scrollTo("end", anchor: .bottom) }
      .onChange(of: model.isGenerating) { _, generates in
        guard !generates, let answer = model.turns.last?.answer, !answer.isEmpty else { return }
        AccessibilityNotification.Announcement(answer).post()
      }
    }
  }
}

private struct TurnView: View {
  let turn: ChatModel.Turn

  var body: some View {
    VStack(alignment: .leading, spacing: 8) {
      Text(turn.prompt)
        .font(.body.weight(.semibold))
        .accessibilityLabel("Prompt: \(turn.prompt)")
      Text(turn.answer)
        .textSelection(.enabled)
        .accessibilityLabel("Answer: \(turn.answer)")
        .contextMenu {
          Button("Copy answer", systemImage: "doc.on.doc") { UIPasteboard.general.string = turn.answer }
        }
      if let note = turn.note {
        Text(note).font(.footnote).foregroundStyle(.secondary)
      }
      if let figures = turn.figures {
        Text(figures.line)
          .font(.caption.monospacedDigit())
          .foregroundStyle(.secondary)
          .accessibilityLabel(figures.spoken)
      }
    }
    .frame(maxWidth: .infinity, alignment: .leading)
  }
}

/// The switches, the prompt, and the button that sends or stops.
private struct Composer: View {
  @Bindable var model: ChatModel
  let isMeasuring: Bool

  var body: some View {
    VStack(spacing: 10) {
      Switches(model: model)
      HStack(alignment: .bottom) {
        TextField("Prompt", text: $model.prompt, axis: .vertical)
          .lineLimit(1...5)
          .textFieldStyle(.roundedBorder)
        if model.isGenerating {
          Button("Stop", systemImage: "stop.circle.fill") { model.stop() }
        } else {
          Button("Send", systemImage: "arrow.up.circle.fill") { Task { await model.send() } }
            .disabled(!model.canSend || isMeasuring)
            .accessibilityHint(isMeasuring ? "Wait for the benchmark to end" : "")
        }
      }
      .labelStyle(.iconOnly)
      .imageScale(.large)
      .font(.title2)
    }
    .padding()
    .background(.bar)
  }
}

/// Sparse or dense, and how to speculate; side by side where the text size leaves room.
private struct Switches: View {
  let model: ChatModel

  var body: some View {
    ViewThatFits(in: .horizontal) {
      HStack {
        experts.fixedSize()
        Spacer()
        speculation.fixedSize()
      }
      VStack(alignment: .leading) {
        experts
        speculation
      }
    }
    .font(.subheadline)
    .disabled(model.isGenerating)
  }

  private var experts: some View {
    Picker("Experts", selection: model.binding(\.dense)) {
      Text("Sparse").tag(false)
      Text("Dense").tag(true)
    }
    .pickerStyle(.segmented)
    .disabled(!model.canRunDense)
    .accessibilityHint(
      model.canRunDense
        ? "Dense reads all experts, sparse those that are active. The text stays the same."
        : "The GPU reads the active experts alone. Settings can choose the processor.")
  }

  private var speculation: some View {
    Picker("Speculation", selection: model.binding(\.speculation)) {
      ForEach(Speculation.allCases.filter(model.isAvailable)) { Text("Speculation: \($0.title)").tag($0) }
    }
    .pickerStyle(.menu)
    .accessibilityHint("How the next tokens are proposed. The text stays the same.")
  }
}

private struct ModelMenu: View {
  let model: ChatModel
  @Binding var picksFolder: Bool

  var body: some View {
    Menu {
      ForEach(model.models) { entry in
        Button {
          Task { await model.select(entry) }
        } label: {
          if entry == model.selected {
            Label(entry.name, systemImage: "checkmark")
          } else {
            Text(entry.name)
          }
        }
      }
      Divider()
      Button("Choose a folder …", systemImage: "folder") { picksFolder = true }
    } label: {
      Label(model.selected?.name ?? "Models", systemImage: "shippingbox")
    }
    .accessibilityLabel("Model: \(model.selected?.name ?? "none")")
  }
}

struct NoticeBanner: View {
  let text: String
  let dismiss: () -> Void

  var body: some View {
    HStack(alignment: .firstTextBaseline) {
      Label(text, systemImage: "info.circle").font(.footnote)
      Spacer()
      Button("Dismiss", systemImage: "xmark", action: dismiss).labelStyle(.iconOnly)
    }
    .padding()
    .background(.yellow.opacity(0.2))
    .accessibilityElement(children: .contain)
  }
}

extension ChatModel {
  /// A switch; it holds from the next prompt on.
  func binding<Value>(_ path: WritableKeyPath<DemoSettings, Value>) -> Binding<Value> {
    Binding {
      self.settings[keyPath: path]
    } set: { value in
      var settings = self.settings
      settings[keyPath: path] = value
      self.apply(settings)
    }
  }
}
