var heartCheck = {
    timeout: 60000, //心跳间隔
    timeoutObj: null,
    serverTimeoutObj: null,
    reset: function(){
        clearTimeout(heartCheck.timeoutObj);
        clearTimeout(heartCheck.serverTimeoutObj);
        return this;
    },
    start: function(){
        heartCheck.timeoutObj && clearTimeout(heartCheck.timeoutObj);
        heartCheck.serverTimeoutObj && clearTimeout(heartCheck.serverTimeoutObj);
        heartCheck.timeoutObj = setTimeout(function(){
            if(vm.socket && vm.socket.readyState===1) {
                vm.socket.send("ping");
                heartCheck.serverTimeoutObj = setTimeout(function () {
                    vm.reconnect();
                }, heartCheck.timeout);
            }
        }, heartCheck.timeout)
    }
};

var vm = new Vue({
    el: '#app',
    data: {            
        userInfo: null,            
        webSocket_url: 'ws://127.0.0.1:9502',
        socket: null,
        lockReconnect: false, //重连标识
        jump: null, //心跳
    },
    methods: {
        wsconnect: function () {
            try{
                vm.socket=new WebSocket(vm.webSocket_url);
            }catch(e){
                console.log('websocket error');
                return false;
            }
            vm.socket.onmessage= function(msg){
                if(msg.data!='pong') {
                    //根据msg.data处理具体业务
                    ...
                }
                heartCheck.reset().start();
            }
            vm.socket.onclose=function(){
                vm.reconnect();
            }
            vm.socket.onerror=function(){
                vm.reconnect();
            }
            vm.socket.onopen=function(){
                heartCheck.reset().start();
            }
        },
        reconnect:function(){
                if(vm.lockReconnect) {
                    return false;
                };
                vm.lockReconnect = true;
                vm.jump && clearTimeout(vm.jump);
                vm.jump = setTimeout(function () {
                    vm.wsconnect();
                    vm.lockReconnect = false;
                }, 4000);
        },
        wsopen:function(){
            !vm.socket && vm.wsconnect();
            if(vm.socket.readyState===1) {
                vm.userInfo = localStorage.getItem('userInfo');
                //推送用户上线消息
                vm.socket.send(JSON.stringify({
                    action: 'open',
                    id: vm.userInfo.id,
                    type: vm.userInfo.type,                            
                    name: vm.userInfo.name,
                    phone:vm.userInfo.phone,
                }));
                    
            }else{
                setTimeout(function(){
                    vm.wsopen();
                }, 1000);
            }
        }
    }
});

//此页面最好在整个项目中只会执行一次,并且不会关掉
window.onLoad= function(){
    //判断用户登陆后,打开websocket连接
    if(localStorage.getItem('userInfo')){
        vm.wsopen();
    }
}
