import BlockFFNDemoModel
import BlockFFNKit
import SwiftUI
import UIKit

@main
struct BlockFFNDemoApp: App {
  @State private var chat = ChatModel()
  @State private var benchmark = BenchmarkModel(device: Device.snapshot)
  @Environment(\.scenePhase) private var scenePhase

  var body: some Scene {
    WindowGroup {
      TabView {
        ChatView(model: chat, isMeasuring: benchmark.isRunning)
          .tabItem { Label("Chat", systemImage: "text.bubble") }
        BenchmarkView(model: benchmark, chat: chat)
          .tabItem { Label("Benchmark", systemImage: "chart.bar.xaxis") }
      }
      .task { await start() }
      .onReceive(NotificationCenter.default.publisher(for: UIApplication.didReceiveMemoryWarningNotification)) { _ in
        benchmark.memoryWarning()
        Task { await chat.memoryWarning() }
      }
      .onReceive(
        NotificationCenter.default.publisher(for: ProcessInfo.thermalStateDidChangeNotification)
          .receive(on: RunLoop.main)
      ) { _ in reportHeat() }
      .onChange(of: scenePhase) { _, phase in
        switch phase {
        case .active: Task { await chat.becameActive() }
        case .inactive: chat.becameInactive()
        case .background:
          chat.enteredBackground()
          benchmark.enteredBackground()
        @unknown default: break
        }
      }
    }
  }

  private func start() async {
    reportHeat()
    var folders: [URL] = [.documentsDirectory]
    if let bundled = Bundle.main.url(forResource: "Models", withExtension: nil) { folders.insert(bundled, at: 0) }
    await chat.addModels(from: folders + FolderBookmarks.restore())
  }

  private func reportHeat() {
    let level = Device.thermalLevel
    chat.thermalChanged(to: level)
    benchmark.thermalChanged(to: level)
  }
}
