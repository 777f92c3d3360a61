<?php
// The business of the example. Each call is one frame of a client, or one event;
// what is printed goes back to the client as the reply.

declare(strict_types=1);

// Who sends the frame; an app with a login takes it from there (docs/actions.md).
$id = $_SERVER['HTTP_PRESENCE_ID'] ?? '';
$type = $_SERVER['HTTP_PRESENCE_TYPE'] ?? '';
$frame = json_decode(file_get_contents('php://input'), true);

header('Content-Type: application/json');

switch ($_SERVER['HTTP_PRESENCE_ACTION'] ?? '') {
    // A rider orders: every driver that is online is told.
    case 'order':
        $order = ['id' => bin2hex(random_bytes(4)), 'rider' => $id, 'from' => $frame['from'], 'to' => $frame['to']];
        $report = push(['types' => ['driver']], ['event' => 'order', 'order' => $order]);
        echo json_encode(['order' => $order['id'], 'drivers' => $report['sent']]);
        break;

    // A driver accepts: the rider is told.
    case 'accept':
        if ($type !== 'driver') {
            http_response_code(403);
            echo json_encode(['why' => 'only drivers accept orders']);
            break;
        }
        $report = push(['ids' => [$frame['rider']]], ['event' => 'accepted', 'order' => $frame['order'], 'driver' => $id]);
        echo json_encode(['told' => $report['sent'] > 0]);
        break;

    case 'otherEvent':
        echo json_encode(['you' => $id, 'sent' => $frame]);
        break;

    // No action: an event.
    default:
        error_log("$type $id is {$frame['event']}");
        http_response_code(204);
}

/** Pushes data to members, and returns what became of it (docs/api.md). */
function push(array $to, array $data): array
{
    $request = stream_context_create(['http' => [
        'method' => 'POST',
        'header' => 'Content-Type: application/json',
        'content' => json_encode(['to' => $to, 'data' => $data]),
        'timeout' => 5,
    ]]);
    $answer = file_get_contents($_SERVER['PRESENCE_API'] . '/push', false, $request);
    if ($answer === false) {
        http_response_code(502);
        exit;
    }
    return json_decode($answer, true);
}
