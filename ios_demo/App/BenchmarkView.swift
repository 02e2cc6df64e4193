import BlockFFNDemoModel
import Charts
import SwiftUI

/// All experts and the active ones with every way to speculate, as a chart and as JSON to share.
struct BenchmarkView: View {
  let model: BenchmarkModel
  let chat: ChatModel

  var body: some View {
    NavigationStack {
      List {
        Section {
          if let entry = chat.selected {
            LabeledContent("Model", value: entry.name)
          }
          controls
        } footer: {
          Text(
            """
            Dense reads all experts, sparse those that are active, both on the processor. One round warms up and is not counted. Bars are \
            medians, lines reach from the slowest to the fastest.
            """)
        }
        results
      }
      .navigationTitle("Benchmark")
    }
  }

  @ViewBuilder private var controls: some View {
    if case .running(let share, let what) = model.phase {
      ProgressView(value: share) { Text(what) }
      Button("Stop", systemImage: "stop.circle", role: .cancel) { model.stop() }
    } else {
      Button("Run", systemImage: "play.circle") {
        guard let entry = chat.selected else { return }
        Task { await model.run(entry) }
      }
      .disabled(chat.selected == nil || chat.isGenerating)
      .accessibilityHint(chat.selected == nil ? "Choose a model on the chat screen first" : "")
    }
  }

  @ViewBuilder private var results: some View {
    switch model.phase {
    case .idle, .running: EmptyView()
    case .stopped: Text("Stopped.")
    case .failed(let reason): Label(reason, systemImage: "exclamationmark.triangle")
    case .finished(let report): ReportView(report: report)
    }
  }
}

private struct ReportView: View {
  let report: BenchmarkReport
  /// Of a bar with its name and number.
  @ScaledMetric private var barHeight = 44.0

  var body: some View {
    Section("Tokens per second") {
      if !report.isTrustworthy {
        Label("The device was hot or in low power mode: do not compare these bars.", systemImage: "thermometer.high")
      }
      if !report.sameText {
        Label("The texts differ, which must never happen.", systemImage: "exclamationmark.octagon")
      }
      chart
    }
    Section("Figures") {
      ForEach(report.rows) { RowView(row: $0, speedup: report.speedup($0)) }
      LabeledContent("Heat", value: "\(report.before.thermal.title) → \(report.after.thermal.title)")
      LabeledContent("Kernels", value: report.kernels)
    }
    Section { share }
  }

  private var chart: some View {
    Chart(report.rows) { row in
      BarMark(x: .value("Tokens per second", row.median), y: .value("Case", row.title))
        .foregroundStyle(by: .value("Experts", row.dense ? "Dense" : "Sparse"))
        .annotation(position: .trailing) {  // beside the bar: a short one has no room for it
          Text(row.median, format: .number.precision(.fractionLength(1)))
            .font(.caption.monospacedDigit())
            .foregroundStyle(.primary)
        }
        .accessibilityLabel(row.title)
        .accessibilityValue("\(Int(row.median)) tokens per second")
      RuleMark(
        xStart: .value("Slowest", row.slowest), xEnd: .value("Fastest", row.fastest), y: .value("Case", row.title)
      )
      .foregroundStyle(.secondary)
      .accessibilityHidden(true)
    }
    .chartXAxisLabel("tokens per second")
    .frame(minHeight: CGFloat(report.rows.count) * barHeight + 60)
  }

  @ViewBuilder private var share: some View {
    if let file = try? report.write(to: .temporaryDirectory) {
      ShareLink("Share the figures (JSON)", item: file)
    } else {
      Label("The figures could not be written: free some storage.", systemImage: "exclamationmark.triangle")
    }
  }
}

private struct RowView: View {
  let row: BenchmarkReport.Row
  let speedup: Double?

  var body: some View {
    VStack(alignment: .leading) {
      Text(row.title).font(.subheadline.weight(.semibold))
      Text(details).font(.caption.monospacedDigit()).foregroundStyle(.secondary)
    }
    .accessibilityElement(children: .combine)
  }

  private var details: String {
    var parts = ["\(row.median.formatted(.number.precision(.fractionLength(1)))) tokens/s"]
    if let speedup { parts.append("\(speedup.formatted(.number.precision(.fractionLength(2))))x") }
    if let length = row.tokensPerCycle {
      parts.append("\(length.formatted(.number.precision(.fractionLength(2)))) tokens/cycle")
    }
    if let share = row.expertsRead {
      parts.append("\(share.formatted(.percent.precision(.fractionLength(0)))) of the experts")
    }
    return parts.joined(separator: ", ")
  }
}
